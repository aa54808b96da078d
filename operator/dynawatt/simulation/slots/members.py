"""The replicas of a fleet on surfaces."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.simulation.core.reading import FleetSnapshot
from dynawatt.simulation.fleet_core import ReplicaState
from dynawatt.workload.classes import CLASS_NAMES


class Count(IntEnum):
    """What is counted of a replica since it was created; the position in ``Member.counts``."""

    ARRIVED = 0
    FIRST_TOKENS = 1
    FIRST_TOKENS_MET = 2
    PROMPT_TOKENS = 3
    GAPS = 4
    GAPS_MET = 5
    FINISHED = 6


@dataclass(slots=True, eq=False)
class Gauges:
    """What a replica had on average during the last interval."""

    running: float = 0.0
    waiting: float = 0.0
    context_tokens: float = 0.0
    """Of the running requests."""
    prompt_tokens: float = 0.0
    """Of the waiting requests."""
    kv_usage: float = 0.0
    emptying_s: float = 0.0
    """How long it would take until the last of them has ended."""


IDLE: Final = Gauges()


@dataclass(slots=True, eq=False)
class Member:
    """One replica."""

    id: int
    shape: int
    pool: int
    clock_mhz: float
    state: ReplicaState
    changes_s: float = inf
    """When it has started up, or has drained."""
    is_open: bool = True
    queue: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(CLASS_NAMES)))
    """Requests that it could not serve yet, by class."""
    gauges: Gauges = IDLE
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(Count)))

    def change(self, now_s: float) -> None:
        """Serve, or be gone, when the time has come."""
        if self.changes_s <= now_s:
            self.state = ReplicaState.SERVING if self.state is ReplicaState.STARTING else ReplicaState.GONE
            self.changes_s = inf

    def drain(self, now_s: float, queue_s: float) -> None:
        """Be gone when the queue, which takes so long, and then the last request have ended; at once without any."""
        left_s = queue_s + self.gauges.emptying_s if self.state is ReplicaState.SERVING else 0.0
        self.state = ReplicaState.DRAINING if left_s > 0 else ReplicaState.GONE
        self.changes_s = now_s + left_s if left_s > 0 else inf
        self.gauges = IDLE


def snapshot_of(members: Sequence[Member]) -> FleetSnapshot:
    """All replicas by id; gauges and counts are rounded to whole numbers."""
    living = [member for member in members if member.state is not ReplicaState.GONE]
    rows = [member.id for member in living]

    def by_id(values: Sequence[float], kind: type[Any]) -> NDArray[Any]:
        found = np.zeros(len(members), kind)
        found[rows] = np.rint(values) if kind is np.int64 else values
        return found

    counts = np.zeros((len(members), len(Count)), np.int64)
    if living:
        counts[rows] = np.rint([member.counts for member in living])
    running = by_id([member.gauges.running for member in living], np.int64)
    return FleetSnapshot(
        id=np.arange(len(members)),
        shape=np.array([member.shape for member in members], np.int64),
        pool=np.array([member.pool for member in members], np.int64),
        state=by_id([member.state for member in living], np.int64),
        open=by_id([member.is_open for member in living], np.bool_),
        clock_mhz=by_id([member.clock_mhz for member in living], np.float64),
        running=running,
        waiting=by_id([member.gauges.waiting for member in living], np.int64),
        decode_requests=running,
        decode_context_tokens=by_id([member.gauges.context_tokens for member in living], np.int64),
        queued_prefill_tokens=by_id([member.gauges.prompt_tokens for member in living], np.int64),
        kv_usage=by_id([member.gauges.kv_usage for member in living], np.float64),
        arrived=counts[:, Count.ARRIVED],
        first_tokens=counts[:, Count.FIRST_TOKENS],
        first_tokens_met=counts[:, Count.FIRST_TOKENS_MET],
        prompt_tokens=counts[:, Count.PROMPT_TOKENS],
        gaps=counts[:, Count.GAPS],
        gaps_met=counts[:, Count.GAPS_MET],
        finished=counts[:, Count.FINISHED],
    )
