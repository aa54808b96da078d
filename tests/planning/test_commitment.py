"""One service against an oracle that tries every course."""

from math import inf

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dynawatt.planning.commitment import Prices
from dynawatt.planning.course import total_j
from dynawatt.planning.fleet_costs import CostRules, gather, service
from dynawatt.planning.options import Choices
from dynawatt.planning.present import ChangeRules, look

from .oracle import SLOT_S, Oracle
from .services import RELEASED_W, curve, state


@st.composite
def cases(draw, most_slots):
    curves = []
    for index in range(draw(st.integers(1, 2))):
        low_rps = draw(st.floats(1, 6))
        curves.append(
            curve(
                f"shape{index}",
                gpus=draw(st.sampled_from([2, 4])),
                startup_s=draw(st.sampled_from([0.0, 60.0, 240.0, 300.0, 480.0])),
                most_replicas=draw(st.integers(1, 3)),
                capacities=((1000, low_rps), (2000, low_rps * draw(st.floats(1, 2)))),
                watts=((draw(st.floats(75, 100)), draw(st.floats(100, 300))), (110, draw(st.floats(300, 700)))),
            )
        )
    ready = {each.name: draw(st.integers(0, 2)) for each in curves}
    starting = {draw(st.sampled_from(curves)).name: draw(st.integers(0, 1))} if draw(st.booleans()) else {}
    free = draw(st.none() | st.lists(st.integers(0, 8), min_size=1, max_size=2))
    slots = draw(st.integers(1, most_slots))
    return (
        state(
            *curves,
            ready={name: min(count, c.most_replicas) for c, (name, count) in zip(curves, ready.items(), strict=True)},
            starting=starting,
            rates=draw(st.lists(st.floats(0, 14), min_size=slots, max_size=slots)),
            high=draw(st.sampled_from([1.0, 1.3])),
            present_rps=draw(st.floats(0, 14)),
            min_replicas=draw(st.integers(0, 2)),
            max_replicas=draw(st.integers(2, 4)),
            max_gpus=draw(st.none() | st.integers(4, 24)),
        ),
        free,
        CostRules(draw(st.booleans()), draw(st.booleans())),
        draw(st.integers(1, 3)),
    )


def solved(case):
    """The oracle, where the service stands, and what it offers if GPUs cost nothing."""
    what, free, costs, dwell_slots = case
    total_gpus = inf if free is None else sum(free) + service(what, inf).held_gpus
    tables = gather([service(what, total_gpus)], costs)
    oracle = Oracle(what, total_gpus, free, dwell_slots, costs, tables.owns[0].charge)
    assume(any(oracle.most))  # where nothing fits at all, everything stays
    changes = ChangeRules(dwell_slots, 0.0, 0.0)
    present = look(tables.owns[0], costs, changes, free)
    return oracle, present, Choices(tables.fleets, [present], changes).solve(Prices.none(tables.fleets.slots))


@settings(max_examples=120, deadline=None)
@given(case=cases(most_slots=4))
def test_every_decision_costs_what_the_best_of_all_courses_after_it_costs(case):
    oracle, present, offers = solved(case)
    expected = {fleet: cost_j for fleet, cost_j in oracle.decisions() if present.own.allowed[fleet]}
    found = {fleet: offers.costs_j[0][fleet] for fleet in expected}
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-3)
    if not any(oracle.state.starting.values()):
        assert np.array(offers.priced_j) == pytest.approx([min(expected.values())], rel=1e-6, abs=1e-3)


@settings(max_examples=120, deadline=None)
@given(case=cases(most_slots=3))
def test_the_course_that_is_followed_costs_and_holds_what_it_says(case):
    oracle, present, offers = solved(case)
    option, own = offers.options[0], present.own
    sum_j = total_j(option.course, present, present.serving.spent_j, own.spent_j, own.start_j.tolist())
    assert sum_j == pytest.approx(offers.priced_j[0], rel=1e-6, abs=1)
    first = option.course.steps[0]
    held = {
        gpus
        for fleet, cost_j, gpus in oracle.courses_from()
        if fleet == (first.shape, first.replicas) and cost_j == pytest.approx(sum_j, rel=1e-9, abs=1e-3)
    }
    assert tuple(option.gpus.tolist()) in held


def test_released_gpus_are_free_of_charge_where_they_are_switched_off():
    what = state(curve(), ready={"a": 1}, rates=(4.0,), high=1.0)
    idle, off = (
        gather([service(what, inf)], CostRules(released_power_counts=counts)).fleets.spent_j[-1, 0, 0, 1]
        for counts in (True, False)
    )
    assert off - idle == pytest.approx(4 * RELEASED_W * SLOT_S)
