"""What the status keeps of a change of shape: that it is under way, or that it failed and when it is tried again.

One change is kept. While a shape is not to be tried again yet that stands there,
whatever else is done meanwhile, or it would be tried again at once.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from dynawatt.api.llmservice_status import Reshape
from dynawatt.controller.draft import StatusDraft
from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.step import RESHAPING, Step, StepKind
from dynawatt.planning.steps import Attempts


def attempts_of(draft: StatusDraft, deployment: str) -> Attempts:
    """How often replicas of this Deployment failed to start."""
    found = draft.status.reshape
    if found is None or found.to != deployment:
        return Attempts()
    return (
        Attempts(found.attempts) if found.retry_time is None else Attempts(found.attempts, found.retry_time.timestamp())
    )


def is_barred(draft: StatusDraft, deployment: str) -> bool:
    """Whether replicas of this Deployment failed to start and are not to be tried again yet."""
    return attempts_of(draft, deployment).bars(draft.now.timestamp())


def turned_away_from(draft: StatusDraft, counts: Mapping[str, ShapeCount], goal: str) -> str | None:
    """The Deployment that the change under way leads to, if it started in vain and another one is the goal by now.

    A plan does not count on replicas that are overdue, so it may leave their shape before they are given up.
    """
    found = draft.status.reshape
    if found is None or found.retry_time is not None or found.to == goal or found.to not in counts:
        return None
    count = counts[found.to]
    return found.to if count.stuck and not count.coming else None


def note_step(draft: StatusDraft, step: Step, goal: str, message: str) -> None:
    """Keep that a change of shape goes on, or forget it and its failures once it is done."""
    before = draft.status.reshape
    ours = before if before is not None and before.to == goal else None
    if step.kind is StepKind.DONE:
        if before is not None and (ours is not None or before.retry_time is None):
            draft.status.reshape = None
    elif before is not None and is_barred(draft, before.to):
        return
    elif ours is not None and ours.retry_time is None:
        draft.status.reshape = Reshape(to=goal, started_time=ours.started_time, attempts=ours.attempts, message=message)
    elif step.reason == RESHAPING:
        failed = 0 if ours is None else ours.attempts
        draft.status.reshape = Reshape(to=goal, started_time=draft.now, attempts=failed, message=message)


def note_failure(draft: StatusDraft, deployment: str, message: str) -> None:
    """Keep that replicas of this Deployment did not become Ready, once more."""
    failed = attempts_of(draft, deployment).after_failure(draft.now.timestamp())
    draft.status.reshape = Reshape(
        to=deployment,
        started_time=draft.now,
        attempts=failed.failed,
        retry_time=datetime.fromtimestamp(failed.retry_s, UTC),
        message=message,
    )


def failure_is_on_record(draft: StatusDraft) -> bool:
    """Whether a successor would know of the last failure, if there was one."""
    found, recorded = draft.status.reshape, draft.on_record.reshape
    if found is None or found.retry_time is None:
        return True
    return recorded is not None and (recorded.to, recorded.attempts) == (found.to, found.attempts)
