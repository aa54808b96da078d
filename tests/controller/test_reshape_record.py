from datetime import timedelta

import pytest

from dynawatt.api.llmservice_status import MAX_BACK_OFFS
from dynawatt.controller import reshape_record
from dynawatt.controller.reshape_record import (
    attempts_of,
    failure_is_on_record,
    has_failed,
    is_barred,
    note_failure,
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


def note_step(draft, step, goal, message, *, is_served=False):
    reshape_record.note_step(draft, step, goal, message, is_served=is_served)


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
@pytest.mark.parametrize("goal", ["a", "b"])
def test_while_a_shape_is_barred_that_stands_there(draft, late, step, goal):
    it = draft()
    note_failure(it, "b", "did not start")
    failed = it.status.reshape
    later = late(it, 299.0)
    note_step(later, step, goal, "whatever", is_served=goal == "a")
    done_after_all = step is DONE and goal == "b"
    assert later.status.reshape == (None if done_after_all else failed)
    assert has_failed(later) is not done_after_all
    assert is_barred(later, "b") is not done_after_all
    assert not is_barred(later, "a")


def test_a_change_to_yet_another_shape_takes_the_place_of_one_that_failed_and_it_stays_barred(draft, late):
    it = draft()
    note_failure(it, "b", "did not start")
    later = late(it, 10.0)
    note_step(later, START, "c", "begins")
    assert (later.status.reshape.to, later.status.reshape.retry_time) == ("c", None)
    assert is_barred(later, "b")
    note_step(later, DONE, "c", "done")
    assert later.status.reshape is None
    assert is_barred(later, "b")
    assert not is_barred(later, "c")


def test_two_shapes_that_fail_by_turns_are_each_waited_for_twice_as_long(draft, late):
    """Remembered in one place they would forget one another, and each would be tried again after five minutes."""
    it = draft()
    for expected, to in [(1, "b"), (1, "c"), (2, "b"), (2, "c"), (3, "b")]:
        it = late(it, 700.0)
        note_failure(it, to, "did not start")
        assert attempts_of(it, to).failed == expected
    now_s = it.now.timestamp()
    assert [attempts_of(it, to).retry_s - now_s for to in ("b", "c")] == [1200.0, -100.0]
    note_step(it, DONE, "b", "done after all")
    assert [attempts_of(it, to).failed for to in ("b", "c")] == [0, 2]


def test_only_the_latest_failures_are_kept(draft, late):
    it = draft()
    for number in range(MAX_BACK_OFFS + 2):
        it = late(it, 1.0)
        note_failure(it, f"shape-{number}", "did not start")
    assert [one.to for one in it.status.back_offs] == [f"shape-{number}" for number in range(2, MAX_BACK_OFFS + 2)]


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
