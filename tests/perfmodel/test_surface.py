from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.perfmodel.surface import ClassLatency, Surface, SurfacePoint


def point(rate_rps, ttft=1.0, tbt=1.0, power_w=0.0):
    return SurfacePoint(rate_rps, ttft, tbt, rate_rps / 10, rate_rps / 100, power_w)


def surface(*row):
    return Surface(tensor_parallel=2, released_w=70.0, loaded_idle_w=110.0, points={1980: row, 900: row})


def test_clocks_ascend():
    assert surface(point(0)).clocks_mhz == [900, 1980]


@pytest.mark.parametrize(
    ("row", "fraction", "expected_rps"),
    [
        ((point(0), point(10), point(20)), 0.99, 20),  # never misses: as far as the grid goes
        ((point(0), point(10, ttft=0.9), point(20)), 0.95, 5),  # half way down; what comes after does not count
        ((point(0), point(10, tbt=0.9), point(20, tbt=0.5)), 0.95, 5),
        ((point(0), point(10, ttft=0.95), point(20, ttft=0.9)), 0.95, 10),
        ((point(0, ttft=0.9), point(10)), 0.95, 0),
        ((point(0, ttft=0.95), point(10, ttft=0.9)), 0.95, 0),
        ((), 0.95, 0),
    ],
)
def test_capacity(row, fraction, expected_rps):
    assert surface(*row).capacity_rps(1980, fraction) == pytest.approx(expected_rps)


@pytest.mark.parametrize(
    ("rate_rps", "power_w", "ttft"), [(0, 100, 1.0), (5, 150, 0.95), (10, 200, 0.9), (15, 250, 0.7), (20, 300, 0.5)]
)
def test_between_points_everything_is_linear(rate_rps, power_w, ttft):
    found = surface(point(0, power_w=100), point(10, 0.9, power_w=200), point(20, 0.5, power_w=300)).at(1980, rate_rps)
    assert (found.power_w, found.ttft_attainment) == pytest.approx((power_w, ttft))
    assert (found.rate_rps, found.ttft_p99_s, found.tbt_p99_s) == pytest.approx(
        (rate_rps, rate_rps / 10, rate_rps / 100)
    )


def test_beyond_the_grid_no_more_requests_are_served_in_time():
    found = surface(point(0), point(20, 0.8, 1.0, power_w=300)).at(1980, 80)
    assert (found.ttft_attainment, found.tbt_attainment, found.power_w) == pytest.approx((0.2, 0.25, 300))


@pytest.mark.parametrize(("replicas", "power_w"), [(1, 1), (2, 2), (3, 3), (4, 4), (40, 4)])
def test_replicas_that_share_a_load_have_points_of_their_own(replicas, power_w):
    row = {size: (point(0, power_w=size), point(size, power_w=size)) for size in (1, 2, 4)}
    grid = Surface(2, 70.0, 110.0, {1980: row[1]}, {4: {1980: row[4]}, 2: {1980: row[2]}})
    assert grid.at(1980, 0.5, replicas).power_w == pytest.approx(power_w)
    assert grid.capacity_rps(1980, 0.99, replicas) == pytest.approx(power_w)


@pytest.mark.parametrize(("replicas", "power_w"), [(8, 8), (14, 14), (20, 20), (32, 32), (33, 32), (160, 32)])
def test_between_fleets_far_apart_in_size_everything_is_linear_too(replicas, power_w):
    row = {size: (point(0, power_w=size), point(size, power_w=size)) for size in (1, 8, 32)}
    grid = Surface(2, 70.0, 110.0, {1980: row[1]}, {32: {1980: row[32]}, 8: {1980: row[8]}})
    assert grid.at(1980, 0.5, replicas).power_w == pytest.approx(power_w)
    assert grid.capacity_rps(1980, 0.99, replicas) == pytest.approx(power_w)


fractions = st.floats(0, 1)


@given(
    row=st.lists(st.tuples(st.floats(0.1, 10), fractions, fractions), min_size=1, max_size=6),
    wanted=st.floats(0.5, 0.99),
    share=st.floats(0, 1),
)
def test_every_load_up_to_the_capacity_attains_what_is_wanted(row, wanted, share):
    points, rate_rps = [point(0.0)], 0.0
    for step, ttft, tbt in row:
        rate_rps += step
        points.append(point(rate_rps, ttft, tbt))
    grid = surface(*points)
    assert grid.at(1980, share * grid.capacity_rps(1980, wanted)).attainment >= wanted - 1e-9


@given(
    rate_rps=st.floats(0, 50),
    replicas=st.integers(1, 12),
    watts=st.lists(st.floats(0, 5000), min_size=6, max_size=6),
)
def test_watts_alone_are_the_same(rate_rps, replicas, watts):
    alone, shared = ([point(10 * i, power_w=watts[3 * row + i]) for i in range(3)] for row in range(2))
    grid = replace(surface(*alone), shared_points={8: {1980: shared, 900: shared}})
    expected = grid.at(1980, rate_rps, replicas).power_w
    assert grid.power_w(1980, rate_rps, replicas) == pytest.approx(expected, abs=1e-9)


def test_between_points_all_figures_move_classes_and_intervals_too():
    def full(rate_rps, ttft, *classes):
        return replace(
            point(rate_rps, ttft, power_w=100 * rate_rps),
            output_tokens_per_s=10 * rate_rps,
            ttft_interval=(ttft - 0.2, ttft + 0.1),
            classes=tuple(ClassLatency(name, 100 * rate_rps, 0, ttft, 1.0, 0.1, rate_rps, 0, 0) for name in classes),
        )

    found = surface(full(0, 0.9), full(10, 0.8, "SS", "MM"), full(20, 0.6, "MM", "LL")).at(1980, 15)
    assert found.ttft_interval == pytest.approx((0.5, 0.8))
    assert found.j_per_token == pytest.approx(10)
    [medium] = found.classes  # known at both ends
    assert (medium.name, medium.requests, medium.ttft_p99_s) == ("MM", 1500, pytest.approx(15))
    assert medium.ttft_attainment == pytest.approx(0.7)


def test_of_an_overload_no_class_is_told():
    last = replace(point(10, 0.8), ttft_interval=(0.7, 0.9), classes=(ClassLatency("SS", 1, 0, 1, 1, 0, 0, 0, 0),))
    found = surface(point(0), last).at(1980, 20)
    assert found.classes == ()
    assert found.ttft_interval == pytest.approx((0.35, 0.45))


def test_without_tokens_each_costs_endlessly_much():
    assert surface(point(0, power_w=500)).at(1980, 0).j_per_token == float("inf")


def test_attainment_is_the_lower_one():
    found = point(1, ttft=0.98, tbt=0.96)
    assert found.attainment == 0.96
    assert found.attains(0.96)
    assert not found.attains(0.97)
