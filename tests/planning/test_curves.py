import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.curves import shape_curve

from .services import IDLE_W, RELEASED_W, Profile, curve, surface

ATTAINMENT = 0.99


@st.composite
def rows(draw):
    rate, points, attained = 0.0, [], 1.0
    for _ in range(draw(st.integers(1, 5))):
        points.append(SurfacePoint(rate, attained, 1.0, 0.1, 0.01, draw(st.floats(100, 3000))))
        rate += draw(st.floats(0.1, 5))
        attained = draw(st.sampled_from([1.0, 0.995, 0.98, 0.4]))
    return points


@st.composite
def surfaces(draw):
    clocks = draw(st.lists(st.integers(800, 1980), min_size=1, max_size=3, unique=True))
    sizes = draw(st.lists(st.integers(2, 5), max_size=2, unique=True))
    grid = st.fixed_dictionaries({clock: rows() for clock in clocks})
    return Surface(4, RELEASED_W, IDLE_W, draw(grid), {size: draw(grid) for size in sizes})


def made(found, most_replicas=7, **changes):
    values = {"attainment": ATTAINMENT, "startup_s": 60.0, "most_replicas": most_replicas, **changes}
    return shape_curve("it", found, Profile(), **values)


@settings(max_examples=200, deadline=None)
@given(found=surfaces(), replicas=st.integers(1, 7), part=st.floats(0, 1.2))
def test_a_curve_says_what_its_surface_says(found, replicas, part):
    each = made(found)
    fleets = {
        clock: max(
            n * found.capacity_rps(lower, ATTAINMENT, n)
            for n in range(1, replicas + 1)
            for lower in found.points
            if lower <= clock
        )
        for clock in found.points
    }
    assert each.capacity_rps(replicas) == pytest.approx(max(fleets.values()))
    rate_rps = part * max(fleets.values())
    able = {
        clock: replicas * found.at(clock, rate_rps / replicas, replicas).power_w
        for clock, most in fleets.items()
        if rate_rps <= most * (1 - 1e-9) or rate_rps == 0
    }
    if not able:
        assert each.power_w(replicas, rate_rps * 1.000001 + 1e-9) == np.inf
        return
    assert each.power_w(replicas, rate_rps * (1 - 1e-9)) == pytest.approx(min(able.values()), rel=1e-6)
    clock_mhz = each.clock_mhz(replicas, rate_rps * (1 - 1e-9))
    assert able[clock_mhz] == pytest.approx(min(able.values()), rel=1e-6)
    assert each.clock_power_w(replicas, rate_rps, clock_mhz) == pytest.approx(able[clock_mhz], rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(found=surfaces())
def test_more_replicas_never_carry_less_and_no_load_is_always_carried(found):
    each = made(found)
    capacities = [each.capacity_rps(count) for count in range(8)]
    assert capacities == sorted(capacities)
    assert capacities[0] == 0
    table = each.power_table(np.array([0.0, 1.0]))
    assert np.isfinite(table[:, 0]).all()
    assert (table[0] == [0, np.inf]).all()


@settings(max_examples=100, deadline=None)
@given(found=surfaces(), replicas=st.integers(1, 7), part=st.floats(0, 1.1))
def test_packing_is_the_best_of_all_ways_to_park(found, replicas, part):
    each = made(found)
    rate_rps = part * each.capacity_rps(replicas)
    ways = {n: each.power_w(n, rate_rps) + (replicas - n) * each.parked_w for n in range(1, replicas + 1)}
    assert each.packed_w(replicas, rate_rps) == pytest.approx(min(ways.values()))
    assert each.packed_table(np.array([rate_rps]))[replicas, 0] == pytest.approx(min(ways.values()))
    if np.isfinite(min(ways.values())):
        assert ways[each.open_replicas(replicas, rate_rps)] == pytest.approx(min(ways.values()))
    else:
        assert each.open_replicas(replicas, rate_rps) == replicas


def test_rates_may_be_many():
    each = curve()
    rates = np.array([[0.0, 4.0], [9.0, 99.0]])
    assert each.power_w(1, rates).shape == (2, 2)
    assert each.power_w(1, rates)[0, 1] == pytest.approx(320 + 0.8 * 580)
    assert each.packed_w(1, rates)[1, 1] == np.inf
    assert isinstance(each.power_w(1, 4.0), float)


def test_watts_of_a_replica_that_does_not_serve():
    each = curve(gpus=4)
    assert (each.parked_w, each.starting_w, each.released_w) == (320.0, 440.0, 280.0)


def test_without_a_choice_of_clocks_the_default_one_is_taken():
    limited = made(surface(), clocks_mhz=(2000,))
    for fixed in (limited, curve().at_clock(np.inf)):
        assert fixed.clocks_mhz == (2000,)
        assert fixed.clock_mhz(1, 1.0) == 2000
        assert fixed.power_w(1, 0.0) == pytest.approx(440)
    assert curve().clock_mhz(1, 1.0) == 1000


@pytest.mark.parametrize(
    ("capacities_rps", "asked_mhz", "clock_mhz"),
    [
        ((5.0, 8.0, 10.0), 1500, 1500),
        ((5.0, 8.0, 10.0), 1499, 1000),
        ((5.0, 8.0, 10.0), 800, 1000),  # there is no lower one
        ((0.0, 8.0, 10.0), 1000, 1500),
        ((0.0, 0.0, 10.0), 1500, 2000),
        ((0.0, 0.0, 0.0), 1500, 1500),  # none is better
    ],
)
def test_the_one_clock_of_a_curve(capacities_rps, asked_mhz, clock_mhz):
    capacities = tuple(zip((1000, 1500, 2000), capacities_rps, strict=True))
    found = curve(capacities=capacities, watts=((80, 225), (90, 300), (110, 500)))
    fixed = found.at_clock(asked_mhz)
    assert fixed.clocks_mhz == (clock_mhz,)
    assert fixed.capacity_rps(3) == pytest.approx(3 * dict(capacities)[clock_mhz])
    assert fixed.power_w(3, 0.0) == pytest.approx(float(found.clock_power_w(3, 0.0, clock_mhz)))


def test_a_busy_fleet_draws_what_it_draws_at_its_capacity():
    each = curve()
    assert each.busy_w()[2] == pytest.approx(each.power_w(2, 20.0))
    assert each.busy_w()[0] == 0


def test_a_shape_that_never_attains_has_no_capacity_but_draws_power():
    each = curve(capacities=((1000, 0.0), (2000, 0.0)))
    assert each.capacity_rps(6) == 0
    assert each.power_w(1, 0.0) > 0
    assert each.power_w(1, 0.1) == np.inf


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attainment": 0.0}, "planned attainment 0.0"),
        ({"attainment": float("nan")}, "planned attainment nan"),
        ({"most_replicas": 0}, "most replicas 0"),
        ({"startup_s": -1.0}, "start-up -1.0 s"),
        ({"startup_s": float("nan")}, "start-up nan s"),
        ({"clocks_mhz": (1234,)}, "clocks [1234] MHz"),
        ({"clocks_mhz": ()}, "clocks [] MHz"),
    ],
)
def test_senseless_curves_are_refused(changes, said):
    with pytest.raises(InvalidInputError, match=r"^[^\n]*$") as refused:
        made(surface(), **changes)
    assert said in str(refused.value)


def test_watts_that_are_no_numbers_are_refused():
    with pytest.raises(InvalidInputError, match="must be numbers"):
        made(surface(watts=((80, float("nan")), (110, 500))))
