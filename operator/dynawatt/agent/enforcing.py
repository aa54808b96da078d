"""From claims to clock commands: the agent's whole decision, without I/O or clock.

A GPU's clocks are locked exactly while it belongs to one pod alone, that pod
carries a valid claim, and nothing bars all claims (a stale Lease, the cluster-wide
switch). In every other case a GPU that we locked is brought back to its default.
The GPUs of a pod are one group: the slowest sets the pace of tensor parallelism,
so all have the same range or none has any. That range ends at the clock that the
pod's governor chose, and begins at the floor of the claim, so that an idle GPU
may drop.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeAlias

from dynawatt.agent.ownership import Ownership
from dynawatt.agent.refusal import Refusal
from dynawatt.api.conditions import Reason
from dynawatt.ports import PodKey


class ClockRange(NamedTuple):
    """SM clocks between which a GPU may run, both included."""

    min_mhz: int
    max_mhz: int

    def __str__(self) -> str:
        """Render for logs, as in ``345-1200MHz``."""
        return f"{self.min_mhz}-{self.max_mhz}MHz"


class Wanted(NamedTuple):
    """What a pod's governor chose, within its claim."""

    floor_mhz: int
    clock_mhz: int
    ceiling_mhz: int


class Setting(Enum):
    """What a GPU is set to when it is not a range."""

    DEFAULT = "default"
    """Reset by us, or never touched."""
    UNKNOWN = "unknown"
    """A command failed half-way, the driver restarted, or the journal names it: the driver has no getter."""

    def __str__(self) -> str:
        """Render for logs."""
        return self.value


Commanded: TypeAlias = ClockRange | Setting


@dataclass(frozen=True, slots=True)
class GpuState:
    """What the decision needs to know of one GPU of this node."""

    supported_mhz: Sequence[int] | None
    """Ascending; empty when its clocks cannot be set, None when it could not say."""
    commanded: Commanded
    refused: str = ""
    """Why the last attempt to set its clocks failed, while it is too early for another."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Bring all GPUs of a pod into a range, or, when one of them refuses, all back to default."""

    pod: PodKey
    uuids: tuple[str, ...]
    clocks: ClockRange


@dataclass(frozen=True, slots=True)
class Reset:
    """Bring one GPU back to its default clocks."""

    uuid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Commands in the order to carry them out, and which claims are not honoured."""

    resets: tuple[Reset, ...] = ()
    locks: tuple[Lock, ...] = ()
    refusals: Mapping[PodKey, Refusal] = field(default_factory=dict)
    granted: Mapping[PodKey, ClockRange] = field(default_factory=dict)
    """The claims that are honoured, as far as the pod's GPUs support them."""


def decide(
    *,
    gpus: Mapping[str, GpuState],
    ownership: Ownership | None,
    claims: Mapping[PodKey, Wanted] | None,
    barred: Refusal | None,
) -> Decision:
    """What must change so that the clocks of this node follow its claims.

    Args:
        gpus: Every GPU of the node by UUID.
        ownership: Which pod holds which GPU, or None when that could not be read.
        claims: The valid claims of the pods on this node with the clocks chosen, or None when they are not known.
        barred: Why no claim holds now, whatever it says; None when claims hold.
    """
    if barred:
        return Decision(resets=_resets(gpus, gpus, barred.message), refusals=dict.fromkeys(claims or {}, barred))
    if ownership is None or claims is None:
        unsure = [uuid for uuid, gpu in gpus.items() if gpu.commanded is Setting.UNKNOWN]
        return Decision(resets=_resets(gpus, unsure, "its clocks are unknown"))

    locks: list[Lock] = []
    refusals: dict[PodKey, Refusal] = {}
    granted: dict[PodKey, ClockRange] = {}
    governed: set[str] = set()
    for pod, claim in claims.items():
        uuids = ownership.gpus.get(pod, ())
        refusal = ownership.refusals.get(pod) or _refusal(uuids, gpus)
        common_mhz = [] if refusal else _common_clocks(gpus[uuid].supported_mhz or () for uuid in uuids)
        if refusal or not common_mhz:
            refusals[pod] = refusal or _unsupported("its GPUs have no supported clock in common")
            continue
        governed.update(uuids)
        granted[pod] = snap(ClockRange(claim.floor_mhz, claim.ceiling_mhz), common_mhz)
        clocks = ClockRange(granted[pod].min_mhz, at_least(claim.clock_mhz, granted[pod], common_mhz))
        if any(gpus[uuid].commanded != clocks for uuid in uuids):
            locks.append(Lock(pod, uuids, clocks))
    released = [uuid for uuid in gpus if uuid not in governed]
    return Decision(
        resets=tuple(
            Reset(uuid, _why_released(ownership.holders.get(uuid, ()), refusals))
            for uuid in released
            if gpus[uuid].commanded is not Setting.DEFAULT
        ),
        locks=tuple(locks),
        refusals=refusals,
        granted=granted,
    )


def snap(claim: ClockRange, supported_mhz: Sequence[int]) -> ClockRange:
    """The part of a claim that a GPU supports.

    When no supported clock lies within the claim, the next higher one is taken, or the highest there is: a clock above
    the claim costs energy, one below it costs latency. ``supported_mhz`` is ascending and not empty.
    """
    first = bisect_left(supported_mhz, claim.min_mhz)
    last = bisect_right(supported_mhz, claim.max_mhz) - 1
    if first <= last:
        return ClockRange(supported_mhz[first], supported_mhz[last])
    nearest = supported_mhz[min(first, len(supported_mhz) - 1)]
    return ClockRange(nearest, nearest)


def at_least(clock_mhz: int, granted: ClockRange, supported_mhz: Sequence[int]) -> int:
    """The lowest supported clock of a granted range that is not below ``clock_mhz``; the highest when none is.

    For the same reason: a governor's clock is the lowest that suffices.
    """
    index = bisect_left(supported_mhz, clock_mhz)
    above_mhz = supported_mhz[index] if index < len(supported_mhz) else granted.max_mhz
    return min(max(above_mhz, granted.min_mhz), granted.max_mhz)


def _refusal(uuids: Sequence[str], gpus: Mapping[str, GpuState]) -> Refusal | None:
    if not uuids:
        return Refusal(Reason.CLAIMS_PENDING, "it holds no GPU of this node")
    for uuid in uuids:
        if gpus[uuid].refused:
            return Refusal(Reason.GPU_ERROR, gpus[uuid].refused)
        if gpus[uuid].supported_mhz is None:
            return Refusal(Reason.GPU_ERROR, f"{uuid} does not say which clocks it supports")
    return None


def _unsupported(message: str) -> Refusal:
    return Refusal(Reason.CLOCK_CONTROL_UNSUPPORTED, message)


def _common_clocks(lists_mhz: Iterable[Sequence[int]]) -> list[int]:
    return sorted(set.intersection(*(set(clocks_mhz) for clocks_mhz in lists_mhz)))


def _why_released(pods: Sequence[PodKey], refusals: Mapping[PodKey, Refusal]) -> str:
    if not pods:
        return "no pod holds it"
    return next(
        (f"claim of {pod} refused: {refusals[pod].message}" for pod in pods if pod in refusals), "no valid claim"
    )


def _resets(gpus: Mapping[str, GpuState], uuids: Iterable[str], reason: str) -> tuple[Reset, ...]:
    return tuple(Reset(uuid, reason) for uuid in uuids if gpus[uuid].commanded is not Setting.DEFAULT)
