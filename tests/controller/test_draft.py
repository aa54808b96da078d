from datetime import timedelta
from math import inf

import pytest

from dynawatt.api.conditions import ConditionType, Reason, find_condition
from dynawatt.api.llmservice import Knob
from dynawatt.api.llmservice_status import Adopted
from dynawatt.planning.service import RunnerUp

from .conftest import make_plan as plan

SIZES = {"tp1": 1, "tp2": 2}


def test_a_new_status_has_every_condition_unknown(draft):
    conditions = draft().status.conditions
    assert [condition.type for condition in conditions] == list(ConditionType)
    assert {condition.status for condition in conditions} == {"Unknown"}
    assert {condition.observed_generation for condition in conditions} == {3}


def test_the_same_again_is_equal(draft):
    first = draft()
    first.set(ConditionType.READY, True, Reason.RECONCILED, "as wanted")
    first.decide(plan(), SIZES)
    again = draft(first.status.to_dict())
    again.now += timedelta(seconds=9)
    again.set(ConditionType.READY, True, Reason.RECONCILED, "as wanted")
    assert not again.decide(plan(power_w=501.0), SIZES)
    assert again.status == first.status


def test_a_condition_that_ends_a_tick_as_it_began_has_not_changed(draft):
    first = draft()
    first.set(ConditionType.PROGRESSING, True, Reason.SCALING, "one more")
    again = draft(first.status.to_dict())
    again.now += timedelta(seconds=9)
    again.set(ConditionType.PROGRESSING, False, Reason.STEADY, "all are Ready")
    again.set(ConditionType.PROGRESSING, True, Reason.SCALING, "one more")
    assert again.status == first.status
    again.set(ConditionType.PROGRESSING, False, Reason.STEADY, "all are Ready")
    assert find_condition(again.status.conditions, ConditionType.PROGRESSING).last_transition_time == again.now


@pytest.mark.parametrize("other", [plan(replicas=3), plan(clock_mhz=1300), plan(reason="GrowForLoad")])
def test_another_choice_is_another_decision(draft, other):
    found = draft()
    assert found.decide(plan(), SIZES)
    assert found.decide(other, SIZES)
    assert found.status.last_decision.reason == other.reason


def test_a_decision_says_what_it_is_expected_to_save_and_what_lost(draft):
    found = draft()
    other = RunnerUp("tp1", 3, 1005, 612.4, "112 W more over 2 h")
    found.decide(plan(runners_up=(other,), saving_to_keeping=-3.0, message="because"), SIZES)
    decision = found.status.last_decision
    assert (decision.message, decision.chosen.predicted_watts) == ("because", 500)
    saving = decision.predicted_saving
    assert (saving.to_keeping_percent, saving.to_default_clock_percent) == (-100, 25)
    [lost] = decision.runners_up
    assert (lost.replicas, lost.clock_megahertz, lost.predicted_watts, lost.why_not) == (
        3,
        1005,
        612,
        "112 W more over 2 h",
    )
    assert draft(found.status.to_dict()).status == found.status


def test_where_nothing_was_planned_nothing_is_expected_to_be_saved(draft):
    found = draft()
    found.decide(plan(energy_j=0.0), SIZES)
    assert found.status.last_decision.predicted_saving is None


@pytest.mark.parametrize(
    ("adopted", "knobs", "since_s"),
    [
        (Adopted(replicas=4, commanded=1), [Knob.REPLICAS, Knob.CLOCK], 60.0),
        (Adopted(replicas=4), [Knob.CLOCK], inf),
        (None, [Knob.REPLICAS], inf),  # given back
    ],
)
def test_how_long_ago_dynawatt_scaled(draft, adopted, knobs, since_s):
    found = draft()
    found.status.adopted = adopted
    for knob in knobs:
        found.changed(knob, "1", "2", "load")
        found.now += timedelta(seconds=30)
    assert found.since_scaled_s == since_s


def test_changes_come_newest_first(draft):
    found = draft()
    for after in range(12):
        found.changed(Knob.REPLICAS, str(after), str(after + 1), "load")
    assert [change.to for change in found.status.last_changes] == [str(12 - i) for i in range(10)]


def test_what_was_written_counts_more_than_an_older_record(draft):
    written = draft().status
    written.adopted = Adopted(replicas=4)
    found = draft({}, written=written)
    assert found.status.adopted == written.adopted
    assert found.status is not written  # or a tick could not be compared with the one before
    assert not found.adopted_is_on_record


@pytest.mark.parametrize(
    ("recorded", "on_record"),
    [({}, False), ({"adopted": {"replicas": 2}}, False), ({"adopted": {"replicas": 4}}, True)],
)
def test_adopted_on_record(draft, recorded, on_record):
    written = draft().status
    written.adopted = Adopted(replicas=4, commanded=1)
    assert draft(recorded, written=written).adopted_is_on_record is on_record


@pytest.mark.parametrize(
    ("status", "adopted"),
    [
        (
            {"lastChanges": [{"knob": "Shape"}], "adopted": {"replicas": 4, "commanded": 2}},
            Adopted(replicas=4, commanded=2),
        ),
        ({"shapes": "?", "adopted": {"replicas": "many"}}, None),
        ({"shapes": "?"}, None),
    ],
)
def test_a_status_of_another_version_keeps_what_is_to_be_given_back(draft, status, adopted):
    assert draft(status).status.adopted == adopted
