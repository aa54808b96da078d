"""Services that compete for GPUs, against all combinations of all their courses."""

from itertools import product
from math import inf
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.planning import sharing
from dynawatt.planning.commitment import Prices
from dynawatt.planning.fleet_costs import CostRules, gather, service
from dynawatt.planning.nodes import all_fit, places
from dynawatt.planning.options import Choices
from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.planning.present import ChangeRules, look
from dynawatt.planning.sharing import Inventory, Limits, share

from .oracle import Oracle
from .services import curve, state

RULES, COSTS = ChangeRules(1, 0.0, 0.0), CostRules()


def problem(states, free):
    total = sum(free) + sum(service(what, inf).held_gpus for what in states)
    tables = gather([service(what, total) for what in states], COSTS)
    presents = [look(own, COSTS, RULES, free) for own in tables.owns]
    sizes = [each.gpus for what in states for each in what.curves.values()]
    return Choices(tables.fleets, presents, RULES), Inventory(free, total, tables.fleets.slots, sizes), tables, total


def solved(states, free):
    choices, inventory, tables, total = problem(states, free)
    found = share(choices, choices.solve(Prices.none(tables.fleets.slots)), inventory, Limits())
    assert inventory.holds(found.options)
    return found, tables, total


@st.composite
def services(draw):
    low_rps = draw(st.floats(2, 6))
    each = curve(
        gpus=draw(st.sampled_from([2, 4, 8])),
        startup_s=draw(st.sampled_from([60.0, 300.0])),
        most_replicas=3,
        capacities=((1000, low_rps), (2000, 1.5 * low_rps)),
        watts=((80, draw(st.floats(120, 300))), (110, draw(st.floats(320, 700)))),
    )
    rates = draw(st.lists(st.floats(0, 20), min_size=2, max_size=2))
    return state(each, ready={"a": draw(st.integers(0, 2))}, rates=rates, high=1.0, min_replicas=0)


def best_of_all(states, free, tables, total):
    """The least cost of all combinations that have room."""
    oracles = [Oracle(what, total, free, 1, COSTS, own.charge) for what, own in zip(states, tables.owns, strict=True)]
    best_j = inf
    for ways in product(*(list(oracle.courses()) for oracle in oracles)):
        cost_j = sum(way[0] for way in ways)
        if (
            cost_j < best_j
            and (np.sum([way[1] for way in ways], axis=0) <= total).all()
            and all_fit([size for way in ways for size in way[2]], free)
        ):
            best_j = cost_j
    return best_j


@settings(max_examples=60, deadline=None)
@given(
    states=st.lists(services(), min_size=2, max_size=3),
    free=st.lists(st.integers(0, 8), min_size=1, max_size=2),
)
def test_the_plan_is_as_good_as_its_proven_gap_says(states, free):
    found, tables, total = solved(states, free)
    best_j = best_of_all(states, free, tables, total)
    cost_j = sum(option.cost_j for option in found.options)
    assert cost_j >= best_j * (1 - 1e-6) - 1
    assert cost_j - best_j <= found.gap * max(abs(cost_j), abs(best_j)) + 1e-6 * abs(best_j) + 1
    if found.found_by == sharing.OPTIMAL:
        assert cost_j == pytest.approx(best_j, rel=1e-6, abs=1)


def rivals(count=6, rate=20.0):
    """Each wants about two more replicas of 4 GPUs than it has."""
    return [state(curve(), ready={"a": 1}, rates=(rate + index,) * 6) for index in range(count)]


def test_scarce_gpus_go_where_they_save_most_and_the_gap_is_small():
    found, _, _ = solved(rivals(), [8, 8])
    assert found.found_by == sharing.MIXED_INTEGER
    assert found.gap <= 0.02
    assert sum(option.started for option in found.options) == 4


def test_room_for_all_is_an_optimum():
    found, _, _ = solved(rivals(), [8] * 20)
    assert (found.found_by, found.gap) == (sharing.OPTIMAL, 0.0)


@pytest.mark.parametrize("broken", ["linprog", "milp", "both"])
def test_without_a_solver_the_greedy_plan_has_room_and_its_gap_is_told(monkeypatch, broken):
    nothing = SimpleNamespace(x=None)
    for name in ("linprog", "milp"):
        if broken in {name, "both"}:
            monkeypatch.setattr(sharing, name, lambda *args, **kwargs: nothing)
    found, _, _ = solved(rivals(), [8, 8])
    assert found.found_by == sharing.GREEDY if broken != "linprog" else found.found_by
    assert found.gap > 0
    assert sum(option.started for option in found.options) == 4


@settings(max_examples=60, deadline=None)
@given(
    states=st.lists(services(), min_size=2, max_size=5),
    free=st.lists(st.integers(0, 8), max_size=3),
    rounds=st.integers(0, 2),
)
def test_there_is_always_a_plan_that_fits(states, free, rounds):
    plans = UnitCommitmentPlanner(limits=Limits(rounds=rounds)).plan(
        {str(number): each for number, each in enumerate(states)}, free
    )
    started = [
        each.curves["a"].gpus
        for plan, each in zip(plans.values(), states, strict=True)
        for _ in range(plan.replicas - each.ready["a"])
    ]
    assert all_fit(started, free)


def test_a_runner_up_says_that_others_need_the_gpus_more():
    states = {str(index): each for index, each in enumerate(rivals())}
    plans = UnitCommitmentPlanner().plan(states, [8, 8])
    told = [other.why_not for plan in plans.values() for other in plan.runners_up]
    assert any("other services need the GPUs more" in why_not for why_not in told)


@pytest.mark.parametrize(
    ("sizes", "free", "fits"),
    [
        ([8], [4, 4], False),
        ([4, 4], [4, 4], True),
        ([4, 8], [8, 4], True),
        ([2, 2, 4], [4, 4], True),
        ([2, 2, 4, 1], [4, 4], False),
        ([], [], True),
        ([1], [], False),
    ],
)
def test_replicas_never_span_nodes(sizes, free, fits):
    assert all_fit(sizes, free) == fits


@given(free=st.lists(st.integers(0, 8), max_size=4), sizes=st.lists(st.sampled_from([1, 2, 4, 8]), max_size=8))
def test_places_say_what_fits_where_sizes_divide_each_other(free, sizes):
    enough = all(sum(other // size for other in sizes if other >= size) <= places(free, size) for size in set(sizes))
    assert all_fit(sizes, free) == enough
