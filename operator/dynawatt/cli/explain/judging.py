"""Which conditions of a service are as they should be, and what to do about the others."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from dynawatt.api.conditions import Condition, ConditionStatus, ConditionType, Reason
from dynawatt.api.remedies import NOTHING_TO_DO, remedy_for

_WANTED_FALSE: Final = frozenset({ConditionType.CONFLICTING.value, ConditionType.PROGRESSING.value})
_KNOWN: Final = frozenset(type_.value for type_ in ConditionType)
_REASONS: Final = frozenset(reason.value for reason in Reason)


class Standing(StrEnum):
    """How a condition is to be taken."""

    GOOD = "good"
    NOTED = "noted"
    """Not as it could be, but as it was asked for, or it passes by itself."""
    UNKNOWN = "unknown"
    """Nothing is known about it yet."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Judged:
    """A condition with what to think of it."""

    type: str
    status: str
    reason: str
    message: str
    since: datetime
    standing: Standing
    remedy: str
    """Empty where nothing is to be done."""


def judge(conditions: Iterable[Condition], *, namespace: str, name: str, deployment: str) -> list[Judged]:
    """All conditions in their order."""
    return [
        Judged(
            type=condition.type,
            status=condition.status.value,
            reason=condition.reason,
            message=condition.message,
            since=condition.last_transition_time,
            standing=_standing(condition),
            remedy=remedy_for(condition.reason, namespace=namespace, name=name, deployment=deployment),
        )
        for condition in conditions
    ]


def _standing(condition: Condition) -> Standing:
    if condition.reason == Reason.NOT_PLANNED_YET and condition.status is ConditionStatus.UNKNOWN:
        return Standing.UNKNOWN
    if condition.reason in NOTHING_TO_DO:
        return Standing.GOOD if _is_wanted(condition) else Standing.NOTED
    if condition.type not in _KNOWN:  # of a newer version: whether it is as it should be nobody here knows
        return Standing.NOTED
    if condition.reason not in _REASONS and _is_wanted(condition):
        return Standing.GOOD
    return Standing.BAD


def _is_wanted(condition: Condition) -> bool:
    wanted = ConditionStatus.FALSE if condition.type in _WANTED_FALSE else ConditionStatus.TRUE
    return condition.status is wanted
