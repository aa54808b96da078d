from dataclasses import replace

import numpy as np
import pytest

from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.operating_point import saturation_rps
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface, clock_grid
from dynawatt.workload.mix import LengthMix

from .conftest import objectives
from .small_replica import small_replica

REPLICA = small_replica()
CLOCKS = (450, 900, 1980)
MIX = LengthMix(np.array([100, 300, 800, 1500]), np.array([20, 60, 30, 90]))


def question(ttft_s=0.15, tbt_s=0.03, **changes):
    settings = EngineSettings(2048, 64, REPLICA.kv_capacity_tokens)
    asked = SurfaceQuestion(REPLICA, settings, MIX, 1.0, objectives(ttft_s, tbt_s), (0.99,), CLOCKS, (1, 4), 800)
    return replace(asked, **changes)


@pytest.fixture(scope="module")
def tight():
    return build_surface(question())


@pytest.fixture(scope="module")
def loose():
    return build_surface(question(1.0, 0.1))


def rows(surface):
    return [row for points in (surface.points, *surface.shared_points.values()) for row in points.values()]


def test_capacity_falls_with_the_clock_and_rises_with_looser_objectives(tight, loose):
    for surface in (tight, loose):
        capacities = [surface.capacity_rps(clock, 0.99) for clock in CLOCKS]
        assert capacities == sorted(capacities)
        assert capacities[0] < capacities[-1]
    for clock in CLOCKS:
        assert tight.capacity_rps(clock, 0.99) <= loose.capacity_rps(clock, 0.99)
        assert loose.capacity_rps(clock, 0.99) <= loose.capacity_rps(clock, 0.97)
    assert 0 < tight.capacity_rps(1980, 0.99) < loose.capacity_rps(1980, 0.99)


def test_sharing_the_load_raises_what_each_replica_carries(tight):
    for clock in CLOCKS[1:]:
        assert tight.capacity_rps(clock, 0.99, 4) > tight.capacity_rps(clock, 0.99, 1)


def test_a_large_fleet_carries_still_more_each_and_is_measured_for_as_long():
    surface = build_surface(question(clocks_mhz=(1980,), fleet_sizes=(1, 4, 32)))
    capacities = [surface.capacity_rps(1980, 0.99, size) for size in (1, 4, 32)]
    assert capacities == sorted(capacities)
    assert capacities[2] > 1.02 * capacities[1]
    assert capacities[2] < saturation_rps(ReplicaShape(REPLICA, question().settings), MIX, 1980)
    for size, measured in ((4, 800), (32, 3200)):
        for point in surface.shared_points[size][1980][1:]:
            assert sum(latency.requests for latency in point.classes) == pytest.approx(measured, rel=0.01)


def test_burstier_requests_leave_less_capacity(tight):
    bursty = build_surface(question(cv=4.0))
    for clock in CLOCKS[1:]:
        assert bursty.capacity_rps(clock, 0.99) < 0.8 * tight.capacity_rps(clock, 0.99)


@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.99])
def test_the_capacity_is_bracketed_at_any_percentile(wanted):
    surface = build_surface(question(attainments=(wanted,), clocks_mhz=(1980,), fleet_sizes=(1,)))
    capacity_rps = surface.capacity_rps(1980, wanted)
    [row] = rows(surface)
    met = [point.rate_rps for point in row if point.rate_rps <= capacity_rps]
    missed = [point.rate_rps for point in row if not point.attains(wanted)]
    assert missed[0] <= 1.021 * met[-1]
    assert surface.at(1980, capacity_rps).attainment >= wanted - 1e-9


def test_every_attainment_that_is_asked_for_has_its_own_bracket():
    asked = (0.9, 0.99, 0.998)
    surface = build_surface(question(attainments=asked, clocks_mhz=(1980,), fleet_sizes=(1,)))
    rates = [point.rate_rps for point in rows(surface)[0]]
    for wanted in asked:
        capacity_rps = surface.capacity_rps(1980, wanted)
        assert any(0.979 * capacity_rps <= rate <= capacity_rps for rate in rates)
        assert any(capacity_rps <= rate <= 1.021 * capacity_rps for rate in rates)


def test_the_shortest_requests_have_a_surface_too():
    shortest = LengthMix(np.array([1]), np.array([1]))
    surface = build_surface(question(1.0, 1.0, mix=shortest, clocks_mhz=(1980,)))
    assert surface.capacity_rps(1980, 0.99) > 1000
    assert surface.points[1980][-1].tbt_p99_s == 0.0


def test_rows_begin_idle_and_get_worse_with_the_load(tight):
    for clock, row in tight.points.items():
        assert row[0].rate_rps == 0
        assert row[0].power_w == pytest.approx(REPLICA.loaded_idle_w(clock))
        assert row[0].attainment == 1
        rates = [point.rate_rps for point in row]
        assert rates == sorted(set(rates))
        powers = [point.power_w for point in row]
        assert powers == pytest.approx(sorted(powers), rel=0.01)
        assert powers[1] > powers[0]
    top = tight.points[1980]
    assert top[1].ttft_p99_s < top[-1].ttft_p99_s
    assert top[1].tbt_p99_s <= top[-1].tbt_p99_s
    assert top[1].j_per_token > top[-1].j_per_token


def test_points_say_how_sure_they_are_and_what_each_class_sees(tight):
    for row in rows(tight):
        for point in row[1:]:
            assert 0 <= point.ttft_interval[0] <= point.ttft_attainment <= point.ttft_interval[1] <= 1
            assert 0 <= point.tbt_interval[0] <= point.tbt_attainment <= point.tbt_interval[1] <= 1
            assert point.ttft_p50_s <= point.ttft_p99_s
            assert point.tbt_p50_s <= point.tbt_p99_s
    point = tight.shared_points[4][1980][1]
    classes = {latency.name: latency for latency in point.classes}
    assert list(classes) == ["SS", "MS", "LS"]  # a quarter, a half and a quarter of the mix
    assert classes["MS"].requests == pytest.approx(400, rel=0.05)
    assert classes["SS"].ttft_p50_s < classes["LS"].ttft_p50_s
    assert sum(latency.requests for latency in point.classes) == pytest.approx(800, rel=0.01)
    met = sum(latency.requests * latency.ttft_attainment for latency in point.classes)
    assert met / sum(latency.requests for latency in point.classes) == pytest.approx(point.ttft_attainment)


def test_a_class_with_few_requests_is_left_out():
    surface = build_surface(question(clocks_mhz=(1980,), fleet_sizes=(1,), requests=600))
    assert [latency.name for latency in surface.points[1980][1].classes] == ["MS"]


def test_tokens_and_joules_are_those_of_the_load(tight):
    for row in rows(tight):
        for point in row[1:]:
            if point.attains(0.99):
                assert point.output_tokens_per_s == pytest.approx(point.rate_rps * MIX.output_tokens.mean(), rel=0.05)
                assert point.j_per_token == point.power_w / point.output_tokens_per_s
        assert row[0].j_per_token == float("inf")


def test_a_hopeless_load_ends_its_row(tight):
    for clock, row in tight.points.items():
        limit_rps = saturation_rps(ReplicaShape(REPLICA, question().settings), MIX, clock)
        grid = [load * limit_rps for load in (0.02, 0.05, 0.1, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)]
        simulated = [point for point in row if point.rate_rps in grid]
        assert [point.rate_rps for point in simulated] == grid[: len(simulated)]
        assert simulated[-1] is row[-1]
        assert [point.attains(0.95) for point in simulated] == [True] * (len(simulated) - 1) + [False]


def test_a_lower_clock_needs_fewer_watts_at_a_load_both_carry(loose):
    rate_rps = 0.5 * loose.capacity_rps(900, 0.99)
    assert loose.at(900, rate_rps).power_w < 0.9 * loose.at(1980, rate_rps).power_w


def test_the_surface_knows_what_gpus_without_work_draw(tight):
    assert (tight.tensor_parallel, tight.released_w) == (1, REPLICA.released_w)
    assert tight.loaded_idle_w == REPLICA.loaded_idle_w(1980)


def test_building_twice_gives_the_same(tight):
    assert build_surface(question()) == tight


@pytest.mark.parametrize(
    ("min_mhz", "step_mhz", "expected"),
    [
        (1500, 165, [1500, 1650, 1815, 1980]),
        (1485, 165, [1485, 1650, 1815, 1980]),
        (1493, 165, [1500, 1650, 1815, 1980]),
        (1950, 1, [1950, 1965, 1980]),
        (1980, 165, [1980]),
        (2500, 165, [1980]),
    ],
)
def test_clock_grid(min_mhz, step_mhz, expected):
    assert clock_grid(REPLICA, min_mhz, step_mhz) == expected


def test_the_default_grid_spans_all_supported_clocks():
    grid = clock_grid(REPLICA, 0)
    assert (grid[0], grid[-1]) == (345, 1980)
    assert set(grid) <= set(REPLICA.gpu.supported_clocks_mhz)
