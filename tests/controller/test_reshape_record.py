from datetime import timedelta

import pytest

from dynawatt.controller.reshape_record import (
    attempts_of,
    failure_is_on_record,
    is_barred,
    note_failure,
    note_step,
    turned_away_from,
)
from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.step import RESHAPING, SCALING, STEADY, Step, StepKind

START, DONE = Step(StepKind.START, RESHAPING, "start"), Step(StepKind.DONE, STEADY, "done")
GROW, BLOCKED = Step(StepKind.START, SCALING, "grow"), Step(StepKind.BLOCKED, "NoSpareCapacity", "no room")


@pytest.fixture
def late(draft):
    """A draft so many seconds after another one was written."""

    def make(before, after_s):
        made = draft({}, written=before.status)
        made.now = before.now + timedelta(seconds=after_s)
        return made

    return make


def test_a_change_is_kept_from_its_first_step_until_it_is_done(draft, late):
    first = draft()
    note_step(first, START, "b", "begins")
    later = late(first, 60.0)
    note_step(later, START, "b", "goes on")
    assert later.status.reshape.started_time == first.now
    assert later.status.reshape.message == "goes on"
    note_step(later, BLOCKED, "b", "no room")
    assert later.status.reshape.message == "no room"
    note_step(later, DONE, "b", "done")
    assert later.status.reshape is None


def test_plain_scaling_is_no_change_of_shape(draft):
    it = draft()
    note_step(it, GROW, "a", "grow")
    assert it.status.reshape is None


@pytest.mark.parametrize("step", [START, GROW, DONE, BLOCKED])
@pytest.mark.parametrize("goal", ["a", "b", "c"])
def test_while_a_shape_is_barred_that_stands_there(draft, late, step, goal):
    it = draft()
    note_failure(it, "b", "did not start")
    failed = it.status.reshape
    later = late(it, 299.0)
    note_step(later, step, goal, "whatever")
    done_after_all = step is DONE and goal == "b"
    assert later.status.reshape == (None if done_after_all else failed)
    assert is_barred(later, "b") is not done_after_all
    assert not is_barred(later, "a")


def test_when_it_is_tried_again_its_failures_are_remembered(draft, late):
    it = draft()
    note_failure(it, "b", "did not start")
    later = late(it, 301.0)
    assert not is_barred(later, "b")
    note_step(later, DONE, "a", "nothing to do")
    note_step(later, START, "b", "again")
    assert (later.status.reshape.attempts, later.status.reshape.retry_time) == (1, None)
    note_failure(later, "b", "did not start")
    assert attempts_of(later, "b").failed == 2
    assert attempts_of(later, "a").failed == 0


def counts(stuck, coming):
    desired = stuck + coming
    return {"a": ShapeCount(4, 1.0, 2, ready=2), "b": ShapeCount(1, 1.0, desired, starting=coming, overdue=stuck)}


@pytest.mark.parametrize(
    ("stuck", "coming", "goal", "found"),
    [(2, 0, "a", "b"), (2, 0, "b", None), (2, 1, "a", None), (0, 0, "a", None)],
)
def test_a_shape_that_started_in_vain_is_found_even_when_the_plan_has_left_it(draft, stuck, coming, goal, found):
    it = draft()
    note_step(it, START, "b", "begins")
    assert turned_away_from(it, counts(stuck, coming), goal) == found
    note_failure(it, "b", "did not start")
    assert turned_away_from(it, counts(stuck, coming), goal) is None  # once


def test_a_failure_is_on_record_when_the_api_has_it(draft):
    it = draft()
    assert failure_is_on_record(it)
    note_step(it, START, "b", "begins")
    assert failure_is_on_record(it)
    note_failure(it, "b", "did not start")
    assert not failure_is_on_record(it)
    assert failure_is_on_record(draft(it.status.to_dict(), written=it.status))
