from datetime import timedelta

import pytest

from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob
from dynawatt.api.llmservice_status import Adopted
from dynawatt.planning.plan import OperatingPoint, ServicePlan


def plan(replicas=2, clock_mhz=1200, reason="Steady", power_w=500.0):
    point = OperatingPoint(replicas, clock_mhz, power_w, 0.999, feasible=True)
    return ServicePlan(point, clock_mhz, "why this clock", [], reason, "why")


def test_a_new_status_has_every_condition_unknown(draft):
    conditions = draft().status.conditions
    assert [condition.type for condition in conditions] == list(ConditionType)
    assert {condition.status for condition in conditions} == {"Unknown"}
    assert {condition.observed_generation for condition in conditions} == {3}


def test_the_same_again_is_equal(draft):
    first = draft()
    first.set(ConditionType.READY, True, Reason.RECONCILED, "as wanted")
    first.decide(plan())
    again = draft(first.status.to_dict())
    again.now += timedelta(seconds=9)
    again.set(ConditionType.READY, True, Reason.RECONCILED, "as wanted")
    assert not again.decide(plan(power_w=501.0))
    assert again.status == first.status


@pytest.mark.parametrize("other", [plan(replicas=3), plan(clock_mhz=1300), plan(reason="GrowForLoad")])
def test_another_choice_is_another_decision(draft, other):
    found = draft()
    assert found.decide(plan())
    assert found.decide(other)
    assert found.status.last_decision.reason == other.reason


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
