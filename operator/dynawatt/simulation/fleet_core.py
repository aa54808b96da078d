"""The fleet simulator: replicas, requests and time, compiled.

Follows the rules of ``simulation.settings`` iteration by iteration, but skips over
runs of equal ones. Requests are routed to the serving replica with the fewest
outstanding ones, of those that may take them: ``simulation.core.routing``.
Everything is deterministic. Memory grows with the requests under way, not with
those that were.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.core import events, reading, state
from dynawatt.simulation.core.reading import FleetSnapshot, RequestRecords
from dynawatt.simulation.core.shares import no_turns, turns_with
from dynawatt.simulation.core.slots import ReplicaSlots
from dynawatt.simulation.core.tables import CostTables, shape_records
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.tally import Tally
from dynawatt.workload.classes import CLASS_NAMES, LengthClasses
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

_ARRIVALS_AT_ONCE: Final = 1 << 16
_READY: Final = -1

__all__ = ["FleetCore", "FleetSnapshot", "ReplicaShape", "ReplicaState", "RequestRecords"]


@dataclass(frozen=True, slots=True)
class ReplicaShape:
    """What kind of replica: model, GPUs and engine flags."""

    replica: ReplicaProfile
    settings: EngineSettings


class ReplicaState(IntEnum):
    """What a replica does."""

    GONE = state.GONE
    STARTING = state.STARTING
    """Holds its GPUs, loads the model, takes no request."""
    SERVING = state.SERVING
    DRAINING = state.DRAINING
    """Takes no new request; gone when its last one has ended."""


class FleetCore:
    """A fleet on virtual time."""

    def __init__(
        self,
        shapes: Sequence[ReplicaShape],
        objectives: LatencyObjectives,
        *,
        classes: LengthClasses = LengthClasses(),  # noqa: B008 (frozen)
        eligible: NDArray[np.bool_] | None = None,
        predictor: LengthPredictor | None = None,
        clock_delay_s: float = 0.0,
        keep_requests: bool = False,
    ) -> None:
        """An empty fleet at time 0.

        Args:
            shapes: what replicas there can be; ``add_replica`` names them by position.
            objectives: what latencies are held against; they also set the deadlines of the queue orders.
            classes: by which lengths requests are counted.
            eligible: [pool, class], which pools take a class; None for one pool that takes all.
            predictor: which class a request is taken for when it is routed; None for its own. It counts by its own.
            clock_delay_s: from ``set_clock`` until the clock is in force.
            keep_requests: whether ``requests()`` is wanted; 16 bytes for each.

        Raises InvalidInputError when a shape's settings are outside its profile.
        """
        if eligible is None:
            eligible = np.ones((1, len(CLASS_NAMES)), np.bool_)
        if eligible.ndim != 2 or eligible.shape[1] != len(CLASS_NAMES):
            raise InvalidInputError(
                f"eligible has the shape {eligible.shape}: must be [pool, {len(CLASS_NAMES)} classes]"
            )
        if not 0 <= clock_delay_s < math.inf:
            raise InvalidInputError(f"clock delay {clock_delay_s} s: must be 0 or more")
        self.now_s = 0.0
        self._objectives = objectives
        self._classes = classes
        self._predictor = predictor
        self._clock_delay_s = clock_delay_s
        self._keep_requests = keep_requests
        records = shape_records([(shape.replica, shape.settings) for shape in shapes])
        self._core = state.new_core(records, np.array(eligible, order="C"), objectives.tbt_s)
        self._turns = no_turns()
        self._costs = CostTables([shape.replica for shape in shapes])
        self._slots = ReplicaSlots()
        self._changes: list[tuple[float, int, int, int]] = []
        """(time, order, replica, row of costs to take or _READY), a heap."""
        self._change_count = 0

    def add_replica(self, shape: int, *, clock_mhz: float, ready_s: float | None = None, pool: int = 0) -> int:
        """A new replica's id; ids count up from 0.

        Until ``ready_s`` it holds its GPUs at loaded idle power and takes no request; None: it serves at once. Raises
        InvalidInputError for a clock that the GPU does not have.
        """
        if not 0 <= pool < len(self._core.eligible):
            raise InvalidInputError(f"pool {pool}: must be below {len(self._core.eligible)}")
        self._core, row = self._costs.row(self._core, shape, clock_mhz)
        starting = ready_s is not None and ready_s > self.now_s
        self._core = self._slots.add(self._core, shape=shape, pool=pool, costs=row, now_s=self.now_s, starting=starting)
        identity = len(self._slots) - 1
        if ready_s is not None and starting:
            self._change_at(float(ready_s), identity, _READY)
        else:
            events.place_waiting(self._core, self._turns, self.now_s)
        return identity

    def drain(self, replica: int) -> None:
        """Take no new request; the replica is gone when its last one has ended. One that starts goes at once."""
        slot = self._slots.find(self._core, replica)
        if slot is not None:
            record = self._core.replicas[slot]
            record.state = state.DRAINING if record.outstanding else state.GONE

    def set_open(self, replica: int, is_open: bool) -> None:
        """Let a replica get new requests, as it does at first, or not; a closed one stays loaded and ends what it has.

        Where no open replica serves that may take a request, closed ones take it.
        """
        slot = self._slots.find(self._core, replica)
        if slot is not None:
            self._core.replicas[slot].closed = not is_open

    def set_shares(self, shares: NDArray[np.float64] | None) -> None:
        """What part of each predicted class every pool gets from now on, to less than one request; [pool, class].

        A request that its pool cannot take, for want of a serving replica that holds it, goes to any eligible pool; it
        counts for its own all the same. None, as at first: all go to the least loaded replica of all eligible pools.

        Raises InvalidInputError where shares of a class do not sum to 1, or a pool has one of what it may not serve.
        """
        self._turns = no_turns() if shares is None else turns_with(shares, self._core.eligible, self._turns)

    def reroute_waiting(self, replica: int) -> int:
        """Move requests that wait at a replica, and that no iteration has worked on, to others; returns how many.

        In their order, and each to the least loaded of the replicas that may take it and have fewer waiting. Shares
        do not count here.
        """
        slot = self._slots.find(self._core, replica)
        return 0 if slot is None else int(events.reroute_waiting(self._core, slot, self.now_s))

    def set_clock(self, replica: int, clock_mhz: float) -> None:
        """Change the clock of iterations that start, and of idle power, from now + clock_delay_s on.

        Raises InvalidInputError for a clock that the GPU does not have.
        """
        slot = self._slots.find(self._core, replica)
        if slot is None:
            return
        self._core, row = self._costs.row(self._core, self._core.replicas[slot].kind, clock_mhz)
        self._change_at(self.now_s + self._clock_delay_s, replica, row)
        self._apply_changes()

    def advance(self, until_s: float, arrivals: Trace | None = None) -> None:
        """Simulate all that happens before ``until_s``; then that is the time.

        Arrivals have absolute times, from now up to but without ``until_s``. Raises InvalidInputError for others.
        """
        until_s = float(until_s)  # for compiled code an int would be another signature
        if not self.now_s <= until_s < math.inf:
            raise InvalidInputError(f"cannot simulate until {until_s} s: it is {self.now_s} s already")
        if arrivals is not None and len(arrivals):
            first_s, last_s = arrivals.arrival_s[0], arrivals.arrival_s[-1]
            if first_s < self.now_s or last_s >= until_s:
                raise InvalidInputError(
                    f"arrivals from {first_s} to {last_s} s: must lie between {self.now_s} and {until_s} s"
                )
        begin = 0
        while True:
            next_s = min(until_s, self._changes[0][0]) if self._changes else until_s
            if arrivals is not None:
                end = int(np.searchsorted(arrivals.arrival_s, next_s, side="left"))
                for chunk in range(begin, end, _ARRIVALS_AT_ONCE):
                    self._arrive(arrivals, slice(chunk, min(end, chunk + _ARRIVALS_AT_ONCE)))
                begin = max(begin, end)
            events.run_all(self._core, math.nextafter(next_s, -math.inf))
            self._settle(next_s)
            if next_s == until_s:
                return

    def finish(self, limit_s: float) -> None:
        """Go on without arrivals until all requests have ended, at most to ``limit_s``; then it is the last end.

        Raises InvalidInputError when the limit has passed.
        """
        limit_s = float(limit_s)
        if not limit_s >= self.now_s:
            raise InvalidInputError(f"cannot finish by {limit_s} s: it is {self.now_s} s already")
        while True:
            next_s = min(limit_s, self._changes[0][0]) if self._changes else limit_s
            if self._outstanding:
                events.run_all(self._core, math.nextafter(next_s, -math.inf))
            if not self._outstanding or next_s == math.inf:
                self._settle(max(self.now_s, self._core.fleet[0].last_end_s))
                return
            self._settle(next_s)
            if next_s == limit_s:
                return

    def snapshot(self) -> FleetSnapshot:
        """All replicas as they are now."""
        return reading.snapshot(self._core, self._slots, self._costs.clock_mhz)

    def tally(self) -> Tally:
        """Sums since time 0."""
        return reading.tally(self._core, self.now_s)

    def requests(self) -> RequestRecords:
        """Every request so far. Raises InvalidInputError unless they are kept."""
        if not self._keep_requests:
            raise InvalidInputError("requests are not kept: create the FleetCore with keep_requests=True")
        count = self._core.fleet[0].next_number
        return RequestRecords(self._core.kept_ttft_s[:count].copy(), self._core.kept_end_s[:count].copy())

    @property
    def _outstanding(self) -> int:
        return self._core.fleet[0].outstanding

    def _arrive(self, arrivals: Trace, part: slice) -> None:
        inputs, outputs = arrivals.input_tokens[part], arrivals.output_tokens[part]
        self._core = state.with_free_requests(self._core, len(inputs))
        if self._keep_requests:
            self._core = state.with_kept_requests(self._core, len(inputs))
        classes = np.ascontiguousarray(self._classes.of(inputs, outputs), np.int64)
        predicted = classes
        if self._predictor is not None:
            predicted = self._predictor.predicted(self._core.fleet[0].next_number, classes)
        events.arrive(
            self._core,
            self._turns,
            np.ascontiguousarray(arrivals.arrival_s[part], np.float64),
            np.ascontiguousarray(self._objectives.ttft_s_of(inputs), np.float64),
            np.ascontiguousarray(inputs, np.int64),
            np.ascontiguousarray(outputs, np.int64),
            classes,
            np.ascontiguousarray(predicted, np.int64),
        )

    def _settle(self, now_s: float) -> None:
        events.settle_all(self._core, now_s)
        self.now_s = float(now_s)
        self._apply_changes()

    def _change_at(self, time_s: float, replica: int, change: int) -> None:
        heapq.heappush(self._changes, (time_s, self._change_count, replica, change))
        self._change_count += 1

    def _apply_changes(self) -> None:
        """Let what is due by now take effect; everything must be settled up to now."""
        while self._changes and self._changes[0][0] <= self.now_s:
            _, _, replica, change = heapq.heappop(self._changes)
            slot = self._slots.find(self._core, replica)
            if slot is None:
                continue
            if change != _READY:
                events.change_costs(self._core, slot, change)
            elif self._core.replicas[slot].state == state.STARTING:
                self._core.replicas[slot].state = state.SERVING
                events.place_waiting(self._core, self._turns, self.now_s)
