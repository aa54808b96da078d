"""What a service does next on the way from the replicas it has to those it is to have: plain data."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final, NamedTuple

STEADY: Final = "Steady"
SCALING: Final = "Scaling"
RESHAPING: Final = "Reshaping"
RESHAPE_FAILED: Final = "ReshapeFailed"
NO_SPARE_CAPACITY: Final = "NoSpareCapacity"
OUTSIDE_CHANGE_WINDOW: Final = "OutsideChangeWindow"
DISRUPTION_NOT_ALLOWED: Final = "DisruptionNotAllowed"
GIVING_BACK: Final = "GivingBack"
GIVE_BACK_INCOMPLETE: Final = "GiveBackIncomplete"


class StepKind(StrEnum):
    """What a step does."""

    START = "Start"
    """More replicas of one Deployment."""
    DRAIN = "Drain"
    """Fewer Ready replicas of one Deployment."""
    DROP = "Drop"
    """Takes away replicas that do not serve and are not wanted: no request notices."""
    ROLL_BACK = "RollBack"
    """Takes away replicas that are wanted but did not become Ready: to be tried again later."""
    WAIT = "Wait"
    """Nothing: it goes on by itself."""
    BLOCKED = "Blocked"
    """Nothing: it goes on when something else changes, and the message says what is missing."""
    DONE = "Done"
    """Nothing: everything is as it is to be."""
    GAVE_UP = "GaveUp"
    """It will not become what it is to be; the message says how it is left."""


class Scale(NamedTuple):
    """A write: how many replicas a Deployment is to ask for."""

    deployment: str
    replicas: int
    node: str | None = None
    """Where the pods are that should go first; None where any may."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: at most one write."""

    kind: StepKind
    reason: str
    """CamelCase, as conditions and Events take it."""
    message: str
    scale: Scale | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is wanted, and what must be kept on the way."""

    goal: Mapping[str, int]
    """Replicas that are to be there in the end, by Deployment; none of those that are not named."""
    reason: str
    """Of all steps that nothing is wrong with."""
    kept_rps: float
    """Capacity of the Ready replicas that are left where others were to make up for those that are drained."""
    kept_replicas: int
    """How many those are at least."""
    needed_rps: float
    """The same where replicas are drained only to make room; infinite where nobody knows the load."""
    needed_replicas: int
    """How many those are at least."""
    barred: Collection[str] = ()
    """Deployments of which nothing is started for now."""
    may_start: bool = True
    may_drain: bool = True
    batch: float = inf
    """Most replicas that start at the same time."""
    is_final: bool = False
    """Whether the goal cannot change any more: what starts in vain is not awaited, what is stuck is left to start."""
