from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.simulation.policies.pools_split import PARTS, SplitRules, cheapest_split, load_parts

from .small_pools import profile

ANY = SplitRules(any_clock=True, all_gpus=False, worth_s=1800.0)


def watts_of(each, count, load, any_clock):
    """Of so many replicas under 0, 1, .. PARTS parts of a load."""
    if each is None or not count:
        return np.array([0.0] + [np.inf] * PARTS)
    return each.power_w(count, load * np.arange(PARTS + 1) / PARTS, any_clock=any_clock)


def fewest_w(tables):
    """Every way to part the load among shapes."""
    ways = [each for each in product(range(PARTS + 1), repeat=len(tables) - 1) if sum(each) <= PARTS]
    return min(
        sum(float(table[part]) for table, part in zip(tables, (*way, PARTS - sum(way)), strict=True)) for way in ways
    )


def by_force(profiles, load, gpus, standing, rules):
    """Every number of replicas of every shape."""
    best = np.inf
    for counts in product(*(range(gpus // each.gpus + 1) if each else range(1) for each in profiles)):
        rows = list(zip(profiles, counts, standing, strict=True))
        held = sum(count * each.gpus for each, count, _ in rows if each)
        if held > gpus or (rules.all_gpus and held < gpus):
            continue
        starts_w = sum(max(0, count - there) * each.startup_j / rules.worth_s for each, count, there in rows if each)
        tables = [watts_of(each, count, load, rules.any_clock) for each, count, _ in rows]
        best = min(best, fewest_w(tables) + starts_w)
    return best


shapes = st.builds(
    profile,
    st.sampled_from([8, 4, 2]),
    st.floats(0.2, 3.0),
    idle_w=st.floats(75, 150),
    watts_per_load=st.floats(10, 2000),
    startup_s=st.floats(0, 600),
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.none() | shapes, min_size=2, max_size=3),
    st.floats(0.05, 6.0),
    st.sampled_from([8, 16]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_no_split_is_cheaper(profiles, load, gpus, any_clock, all_gpus, data):
    rules = SplitRules(any_clock, all_gpus, worth_s=1800.0)
    standing = [data.draw(st.integers(0, 2)) for _ in profiles]
    found = cheapest_split(profiles, load, gpus, standing, rules)
    least_w = by_force(profiles, load, gpus, standing, rules)
    if found is None:
        assert least_w == np.inf
        return
    assert found.cost_w == pytest.approx(least_w)
    held = sum(count * each.gpus for count, each in zip(found.replicas, profiles, strict=True) if each)
    assert held == gpus if all_gpus else held <= gpus
    assert all(each or not count for count, each in zip(found.replicas, profiles, strict=True))


def test_two_small_replicas_replace_a_large_one_only_when_that_pays():
    # TP8 draws 240 W beyond released GPUs and 300 J per work, two TP4 240 W and 240 J: 60 W less at a load of 1.
    profiles = [profile(8, 2.0, watts_per_load=500), profile(4, 1.0, watts_per_load=400)]
    # Starting two TP4 takes (110 - 70) * 4 * 2 * 60 J = 19.2 kJ.
    slow = SplitRules(any_clock=True, all_gpus=True, worth_s=300)
    fast = SplitRules(any_clock=True, all_gpus=True, worth_s=330)
    assert cheapest_split(profiles, 1.0, 8, [1, 0], slow).replicas == (1, 0)
    assert cheapest_split(profiles, 1.0, 8, [1, 0], fast).replicas == (0, 2)


def test_a_load_beyond_the_gpus_has_no_split():
    assert cheapest_split([profile(8, 2.0)], 4.1, 16, [2], ANY) is None


def test_no_gpus_carry_nothing():
    assert cheapest_split([profile(8, 2.0)], 1.0, 0, [0], ANY) is None
    assert cheapest_split([profile(8, 2.0)], 0.0, 0, [0], ANY).replicas == (0,)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | shapes, min_size=1, max_size=3), st.floats(0.05, 6.0), st.booleans(), st.data())
def test_no_other_parts_are_cheaper(profiles, load, any_clock, data):
    counts = [data.draw(st.integers(0, 2)) for _ in profiles]
    parts = load_parts(profiles, counts, load, any_clock=any_clock)
    assert parts.sum() == pytest.approx(1)
    tables = [watts_of(each, count, load, any_clock) for each, count in zip(profiles, counts, strict=True)]
    least_w = fewest_w(tables)
    taken = np.rint(parts * PARTS).astype(int)
    assert least_w == np.inf or sum(table[each] for table, each in zip(tables, taken, strict=True)) == pytest.approx(
        least_w
    )


def test_an_idle_replica_is_left_idle_where_that_saves():
    # At the default clock a request takes the same joules anywhere: all of it goes where it takes fewest.
    profiles = [profile(8, 2.0, watts_per_load=500), profile(4, 1.0, watts_per_load=400)]
    assert load_parts(profiles, [1, 2], 1.0, any_clock=False).tolist() == [0.0, 1.0]
    assert load_parts(profiles, [1, 1], 2.0, any_clock=False).tolist() == [0.5, 0.5]


def test_an_overload_is_shared_by_capacity():
    assert load_parts([profile(8, 2.0), profile(4, 1.0)], [1, 2], 99.0, any_clock=True).tolist() == [0.5, 0.5]
    assert load_parts([profile(8, 2.0), None], [0, 0], 1.0, any_clock=True).tolist() == [1.0, 0.0]
