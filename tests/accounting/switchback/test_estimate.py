import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.switchback.estimate import FEWEST_PAIRS, Pair, estimate

from .worlds import World, compared

RUNS = 400


def estimates(world, *, days, percent, runs=RUNS):
    return [
        estimate(compared(world, np.random.default_rng(seed), days=days, percent=percent, uid=f"svc-{seed % 25}"))
        for seed in range(runs)
    ]


def covered(found, truth):
    return sum(each.low <= truth <= each.high for each in found) / len(found)


@pytest.mark.parametrize(
    ("world", "days", "percent"),
    [
        (World(0.25), 1, 10),
        (World(0.25), 3, 50),
        (World(0.25, turns=0.3, noise=0.05), 1, 10),
        (World(0.25, day=0.0, turns=0.0), 1, 10),
        (World(0.25, trend_per_day=1.0), 2, 10),
        (World(0.05, noise=0.1), 2, 20),
        (World(-0.1), 1, 10),
    ],
)
def test_nineteen_of_twenty_intervals_hold_the_truth(world, days, percent):
    found = estimates(world, days=days, percent=percent)
    assert 0.93 <= covered(found, world.truth()) <= 0.99
    bias = float(np.mean([each.ratio for each in found])) - world.truth()
    assert abs(bias) < 0.003


@pytest.mark.parametrize(("days", "percent"), [(1, 10), (4, 50)])
def test_a_saving_that_differs_over_the_day_makes_intervals_too_wide_but_not_wrong(days, percent):
    world = World(0.25, falling=0.5)
    found = estimates(world, days=days, percent=percent, runs=200)
    assert covered(found, world.truth()) >= 0.95
    assert abs(float(np.mean([each.ratio for each in found])) - world.truth()) < 0.003


def test_as_few_pairs_as_are_needed_give_an_interval_that_holds():
    runs = []
    for seed in range(RUNS):
        pairs = compared(World(0.2), np.random.default_rng(seed), days=0.5, percent=50, uid=f"svc-{seed % 25}")
        runs.append(estimate(pairs[:FEWEST_PAIRS]))
    assert 0.93 <= covered(runs, 0.2) <= 0.99


def test_no_effect_is_not_mistaken_for_one():
    found = estimates(World(0.0), days=1, percent=10)
    assert 0.93 <= covered(found, 0.0) <= 0.99
    assert sum(each.is_certain for each in found) / len(found) <= 0.045


def test_a_real_saving_is_certain_within_a_day():
    assert all(each.is_certain for each in estimates(World(0.15), days=1, percent=10, runs=50))


def test_different_loads_widen_the_interval_less_than_they_would():
    rng = np.random.default_rng(1)
    pairs = compared(World(0.2, turns=0.4), rng, days=3, percent=10, uid="svc")
    blind = [pair._replace(off_load=1.0, on_load=1.0) for pair in pairs]
    adjusted, unadjusted = estimate(pairs), estimate(blind)
    assert adjusted.high - adjusted.low < 0.5 * (unadjusted.high - unadjusted.low)
    assert adjusted.low <= 0.2 <= adjusted.high


def test_a_load_that_is_higher_whenever_the_clock_is_off_is_no_saving():
    rng = np.random.default_rng(2)
    loads = rng.uniform(10, 20, 60)
    pairs = [Pair(0.0, 500 + 50 * (load + extra), 500 + 50 * load, load + extra, load)
             for load, extra in zip(loads, rng.uniform(1, 5, 60), strict=True)]  # fmt: skip
    found = estimate(pairs)
    assert found.ratio == pytest.approx(0.0, abs=1e-9)


def test_too_little_is_said_to_be_too_little():
    pairs = compared(World(0.2), np.random.default_rng(0), days=1, percent=50, uid="svc")
    assert estimate([]) is None
    assert estimate(pairs[: FEWEST_PAIRS - 1]) is None
    assert estimate(pairs[:FEWEST_PAIRS]).pairs == FEWEST_PAIRS


def test_pods_that_draw_nothing_save_nothing():
    assert estimate([Pair(0.0, 0.0, 0.0, 1.0, 1.0)] * 20) is None


def test_without_noise_the_interval_is_a_point():
    found = estimate([Pair(0.0, 1000.0, 700.0, 5.0, 5.0)] * 20)
    assert (found.ratio, found.low, found.high, found.saved_w) == pytest.approx((0.3, 0.3, 0.3, 300.0))


@given(factor=st.floats(0.01, 1e6), unit=st.floats(1e-3, 1e6), seed=st.integers(0, 20))
def test_units_do_not_matter(factor, unit, seed):
    pairs = compared(World(0.2), np.random.default_rng(seed), days=0.5, percent=50, uid="svc")
    scaled = [Pair(p.end_s, factor * p.off_w, factor * p.on_w, unit * p.off_load, unit * p.on_load) for p in pairs]
    one, other = estimate(pairs), estimate(scaled)
    assert (other.ratio, other.low, other.high) == pytest.approx((one.ratio, one.low, one.high), abs=1e-6)
    assert other.saved_w == pytest.approx(factor * one.saved_w, rel=1e-6)
