"""What the status keeps of changes of shape: the one that is under way or failed last, and which shapes to avoid.

A shape that failed to start is avoided for a while, each for its own time, or two
that fail by turns would be tried again at once for ever. The change that failed
last stands there until it is tried again or another one begins.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from dynawatt.api.llmservice_status import MAX_BACK_OFFS, BackOff, Reshape
from dynawatt.controller.draft import StatusDraft
from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.step import RESHAPING, Step, StepKind
from dynawatt.planning.steps import Attempts


def attempts_of(draft: StatusDraft, deployment: str) -> Attempts:
    """How often replicas of this Deployment failed to start."""
    found = next((one for one in draft.status.back_offs if one.to == deployment), None)
    return Attempts() if found is None else Attempts(found.attempts, found.retry_time.timestamp())


def is_barred(draft: StatusDraft, deployment: str) -> bool:
    """Whether replicas of this Deployment failed to start and are not to be tried again yet."""
    return attempts_of(draft, deployment).bars(draft.now.timestamp())


def has_failed(draft: StatusDraft) -> bool:
    """Whether the last change of shape failed."""
    return draft.status.reshape is not None and draft.status.reshape.retry_time is not None


def turned_away_from(draft: StatusDraft, counts: Mapping[str, ShapeCount], goal: str) -> str | None:
    """The Deployment that the change under way leads to, if it started in vain and another one is the goal by now.

    A plan does not count on replicas that are overdue, so it may leave their shape before they are given up.
    """
    found = draft.status.reshape
    if found is None or found.retry_time is not None or found.to == goal or found.to not in counts:
        return None
    count = counts[found.to]
    return found.to if count.stuck and not count.coming else None


def note_step(draft: StatusDraft, step: Step, goal: str, message: str, *, is_served: bool) -> None:
    """Keep that a change of shape goes on, or forget it and its failures once it is done.

    ``is_served`` tells whether the goal has replicas that serve: to go back to it after a failure is no new change.
    """
    before = draft.status.reshape
    ours = before if before is not None and before.to == goal else None
    if step.kind is StepKind.DONE:
        draft.status.back_offs = [one for one in draft.status.back_offs if one.to != goal]
        if before is not None and (ours is not None or before.retry_time is None):
            draft.status.reshape = None
    elif before is not None and is_barred(draft, before.to) and (is_served or ours is not None):
        return
    elif ours is not None and ours.retry_time is None:
        draft.status.reshape = Reshape(to=goal, started_time=ours.started_time, attempts=ours.attempts, message=message)
    elif step.reason == RESHAPING:
        failed = attempts_of(draft, goal).failed
        draft.status.reshape = Reshape(to=goal, started_time=draft.now, attempts=failed, message=message)


def note_failure(draft: StatusDraft, deployment: str, message: str) -> None:
    """Keep that replicas of this Deployment did not become Ready, once more."""
    failed = attempts_of(draft, deployment).after_failure(draft.now.timestamp())
    retry_time = datetime.fromtimestamp(failed.retry_s, UTC)
    draft.status.reshape = Reshape(
        to=deployment, started_time=draft.now, attempts=failed.failed, retry_time=retry_time, message=message
    )
    others = [one for one in draft.status.back_offs if one.to != deployment]
    latest = sorted(others, key=lambda one: one.retry_time)[-(MAX_BACK_OFFS - 1) :]
    draft.status.back_offs = [*latest, BackOff(to=deployment, attempts=failed.failed, retry_time=retry_time)]


def failure_is_on_record(draft: StatusDraft) -> bool:
    """Whether a successor would know of all failures."""
    recorded = {(one.to, one.attempts) for one in draft.on_record.back_offs}
    return all((one.to, one.attempts) in recorded for one in draft.status.back_offs)
