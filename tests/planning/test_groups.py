"""Services that may not use all nodes."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.planning.groups import grouped, share_nodes
from dynawatt.planning.nodes import left_over
from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.planning.sharing import OPTIMAL

from .services import curve, state

A, B, AB = frozenset("a"), frozenset("b"), frozenset("ab")
PLANNER = UnitCommitmentPlanner()


def wants(replicas, nodes, gpus=4, **changes):
    """One replica is there, and so many are needed, of 10 req/s each."""
    load = {"rates": (10.0 * replicas - 2.0,) * 6, "high": 1.0, "ready": {"a": 1}}
    return state(curve(gpus=gpus), nodes=nodes, **load | changes)


def counts(states, free):
    return {name: plan.replicas for name, plan in PLANNER.plan(states, free).items()}


@pytest.mark.parametrize(("nodes", "replicas"), [(A, 1), (B, 3), (AB, 3), (None, 3), (frozenset(), 1)])
def test_a_service_is_planned_on_nodes_that_it_may_use(nodes, replicas):
    assert counts({"it": wants(3, nodes)}, {"a": 0, "b": 8}) == {"it": replicas}


def test_where_the_gpus_are_missing_is_known():
    plan = PLANNER.plan({"it": wants(3, A)}, {"a": 3, "b": 8})["it"]
    assert (plan.reason, plan.replicas) == ("SLOUnreachable", 1)


def test_services_of_different_nodes_do_not_take_from_each_other():
    states = {"x": wants(3, A), "y": wants(3, B)}
    assert counts(states, {"a": 8, "b": 8}) == {"x": 3, "y": 3}
    assert counts(states, {"a": 0, "b": 16}) == {"x": 1, "y": 3}
    found = PLANNER.decide(states, {"a": 8, "b": 8})
    assert (found.gap, found.found_by) == (0.0, OPTIMAL)


def test_who_has_the_fewest_nodes_chooses_first_and_nothing_is_promised_twice():
    states = {"wide": wants(3, AB), "all": wants(2, None), "narrow": wants(2, A)}
    assert counts(states, {"a": 4, "b": 8}) == {"wide": 3, "all": 1, "narrow": 2}
    found = PLANNER.decide(states, {"a": 4, "b": 8})
    assert list(found.plans) == list(states)
    assert found.gap == inf  # they were not weighed against each other


def test_without_bounds_nodes_do_not_matter():
    assert counts({"it": wants(3, A)}, None) == counts({"it": wants(3, None)}, None)


@pytest.mark.parametrize(
    ("sets", "shared"),
    [([A, B], False), ([A, A], False), ([A, AB], True), ([A, None], True), ([None, None], False), ([], False)],
)
def test_groups_are_of_equal_nodes(sets, shared):
    groups = grouped({str(index): wants(1, nodes) for index, nodes in enumerate(sets)})
    assert len(groups) == len(set(sets))
    assert share_nodes(groups) is shared


@settings(max_examples=60, deadline=None)
@given(
    states=st.lists(
        st.tuples(
            st.integers(1, 4),
            st.sampled_from([1, 2, 4, 8]),
            st.none() | st.frozensets(st.sampled_from("abc")),
        ),
        min_size=1,
        max_size=5,
    ),
    free=st.fixed_dictionaries({name: st.integers(0, 8) for name in "abc"}),
)
def test_everything_that_is_started_has_room_where_it_may_run(states, free):
    asked = {str(index): wants(count, nodes, gpus) for index, (count, gpus, nodes) in enumerate(states)}
    started = [
        (asked[name].curves["a"].gpus, asked[name].nodes)
        for name, plan in PLANNER.plan(asked, free).items()
        for _ in range(plan.replicas - 1)
    ]
    assert have_room(sorted(started, key=lambda each: -each[0]), free)


def have_room(started, free):
    """Any way to place them will do."""
    if not started:
        return True
    (gpus, nodes), *rest = started
    fitting = [name for name, left in free.items() if left >= gpus and (nodes is None or name in nodes)]
    return any(have_room(rest, free | {name: free[name] - gpus}) for name in fitting)


def test_what_is_left_over():
    assert left_over([4, 8, 2], {"a": 8, "b": 4}) == {"a": 0, "b": 0}
    assert left_over([2], {"a": 8, "b": 4}) == {"a": 8, "b": 2}
    assert left_over([8, 8], {"a": 8, "b": 4}) == {"a": 0, "b": 4}
