"""A fleet whose replicas do what their surfaces say: ``FleetCore``'s interface, fed with counts instead of requests.

Between changes every pool's open replicas share its arrivals, and each is in the
steady state that the surface of its shape knows at its clock and its load. What
more arrives at a replica than it can serve waits there, and is served late or
never. Requests of other lengths than the pool's own count by their work.

Left out: the seconds it takes a replica to get from one steady state to the next,
the delay of clocks, preemption, and requests too long for a KV cache.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.core.reading import FleetSnapshot
from dynawatt.simulation.fleet_core import ReplicaShape, ReplicaState
from dynawatt.simulation.policy import Governed
from dynawatt.simulation.slots.books import Books
from dynawatt.simulation.slots.flows import NOTHING, Kind, PoolFlow
from dynawatt.simulation.slots.load import SlotLoad
from dynawatt.simulation.slots.members import IDLE, Member, snapshot_of
from dynawatt.simulation.slots.models import PoolModels
from dynawatt.simulation.slots.sharing import pool_parts
from dynawatt.simulation.study import Study
from dynawatt.simulation.tally import Cause, Tally
from dynawatt.workload.classes import CLASS_NAMES

Numbers = NDArray[np.float64]

_CLASSES: Final = len(CLASS_NAMES)
_OVERTIME_STEP_S: Final = 10.0


class SurfaceCore:
    """A fleet on virtual time.

    Args:
        shapes: What replicas there can be; ``add_replica`` names them by position.
        study: Where surfaces come from, and what requests of a class weigh.
        load: What the requests of each class are like; ``advance`` says how many there are.
        pool_classes: The classes that each pool is there for: its surfaces are of their mix.
        eligible: [pool, class], which pools take a class; None for all.
        predictor: Which class a request is taken for when it is routed; None for its own.
    """

    def __init__(
        self,
        shapes: Sequence[ReplicaShape],
        study: Study,
        load: SlotLoad,
        *,
        pool_classes: Sequence[tuple[int, ...]],
        eligible: NDArray[np.bool_] | None = None,
        predictor: LengthPredictor | None = None,
    ) -> None:
        """An empty fleet at time 0."""
        self.now_s = 0.0
        self._shapes = shapes
        self._models = PoolModels(study, shapes, pool_classes)
        self._load = load
        self._eligible = np.ones((len(pool_classes), _CLASSES), np.bool_) if eligible is None else eligible
        self._confusion = np.eye(_CLASSES) if predictor is None else predictor.confusion
        self._shares: Numbers | None = None
        self._members: list[Member] = []
        """By id, all that there ever were."""
        self._living: list[Member] = []
        self._waiting = np.zeros((_CLASSES, _CLASSES))
        """Requests that nobody could serve yet, [predicted class, actual class]."""
        self._books = Books()

    def add_replica(self, shape: int, *, clock_mhz: float, ready_s: float | None = None, pool: int = 0) -> int:
        """A new replica's id; ids count up from 0. It serves from ``ready_s`` on, or at once.

        Raises InvalidInputError for a clock that the GPU does not have.
        """
        if not 0 <= pool < len(self._eligible):
            raise InvalidInputError(f"pool {pool}: must be below {len(self._eligible)}")
        self._check(shape, clock_mhz)
        starting = ready_s is not None and ready_s > self.now_s
        state = ReplicaState.STARTING if starting else ReplicaState.SERVING
        changes_s = ready_s if ready_s is not None and starting else inf
        member = Member(len(self._members), shape, pool, clock_mhz, state, changes_s)
        self._members.append(member)
        self._living.append(member)
        return member.id

    def drain(self, replica: int) -> None:
        """Take no new request; the replica is gone when its last one has ended. One that starts goes at once."""
        member = self._members[replica]
        if member.state in {ReplicaState.STARTING, ReplicaState.SERVING}:
            kind = self._kind(member.pool, [member], takes=False)
            member.drain(self.now_s, kind.queued / kind.limit_rps if kind.queued else 0.0)
            self._bury()

    def reroute_waiting(self, replica: int) -> int:
        """Nothing: what waits in a pool is not with any one of its replicas."""
        del replica
        return 0

    def set_open(self, replica: int, is_open: bool) -> None:
        """Let a replica get new requests, as it does at first, or not; closed ones do where no open one serves."""
        self._members[replica].is_open = is_open

    def set_shares(self, shares: Numbers | None) -> None:
        """What part of each predicted class every pool gets from now on, [pool, class]."""
        self._shares = None if shares is None else np.array(shares, np.float64)

    def set_clock(self, replica: int, clock_mhz: float) -> None:
        """Change a replica's clock at once. Raises InvalidInputError for a clock that the GPU does not have."""
        member = self._members[replica]
        self._check(member.shape, clock_mhz)
        member.clock_mhz = clock_mhz

    def advance(self, until_s: float, arrivals: Numbers | None = None, counted: Numbers | None = None) -> None:
        """Go on to a time; so many requests of each class come in between, evenly, and so many are counted.

        Raises InvalidInputError for a time that has passed.
        """
        if not self.now_s <= until_s < inf:
            raise InvalidInputError(f"cannot simulate until {until_s} s: it is {self.now_s} s already")
        counts = np.zeros(_CLASSES) if arrivals is None else arrivals
        begin_s = self.now_s
        self._books.requests += counts if counted is None else counted
        while self.now_s < until_s:
            next_s = min([until_s, *(member.changes_s for member in self._living)])
            interval_s = next_s - self.now_s
            self._serve(counts * (interval_s / (until_s - begin_s)), interval_s)
            self.now_s = next_s
            for member in self._living:
                member.change(next_s)
            self._bury()

    def finish(self, limit_s: float) -> None:
        """Go on without arrivals until nothing waits, at most to ``limit_s``."""
        while self.now_s < limit_s and self._unserved > NOTHING:
            self.advance(min(limit_s, self.now_s + _OVERTIME_STEP_S))

    def settled_clocks(self, claims: Mapping[int, Governed], arrivals: Numbers, interval_s: float) -> dict[int, float]:
        """Mean clocks of governed replicas under these arrivals of an interval, in MHz by id, as the GPU has them.

        Who has requests waiting is at the ceiling, who has none at the floor; one that starts up keeps its clock.
        """
        found = {
            member.id: self._snapped(member.shape, claims[member.id].floor_mhz)
            for member in self._living
            if member.id in claims and member.state is not ReplicaState.STARTING
        }
        for flow in self._flows(arrivals, interval_s)[0]:
            for kind, task in zip(flow.kinds, flow.tasks, strict=True):
                waits = kind.queued > 0 or flow.waited.sum() > NOTHING
                settling = self._models.settling(kind.members[0].pool)
                replicas, settled = max(1, flow.replicas), dict[int, float]()
                for member in kind.members:
                    if (claim := claims.get(member.id)) is not None:
                        if id(claim) not in settled:
                            found_mhz = settling.at(claim, inf if waits else task.offered_rps, replicas)
                            mean_mhz = kind.table.mean_clock_mhz(found_mhz, task.offered_rps, replicas)
                            settled[id(claim)] = self._snapped(member.shape, mean_mhz)
                        found[member.id] = settled[id(claim)]
        return found

    def snapshot(self) -> FleetSnapshot:
        """All replicas as they are now; of gauges, the mean of the last interval."""
        return snapshot_of(self._members)

    def tally(self) -> Tally:
        """Sums since time 0."""
        return self._books.tally()

    @property
    def _unserved(self) -> float:
        """Requests that wait."""
        return float(self._waiting.sum() + sum(member.queue.sum() for member in self._living))

    def _serve(self, counts: Numbers, interval_s: float) -> None:
        """What happens in an interval without changes."""
        if interval_s <= 0:
            return
        flows, self._waiting = self._flows(counts, interval_s)
        working: set[int] = set()
        for flow in flows:
            flow.serve(self._books, self._load.mean_input_tokens, self._load.mean_output_tokens)
            working.update(member.id for kind in flow.kinds for member in kind.members)
        for member in self._living:
            if member.id not in working:
                self._idle(member, interval_s)

    def _idle(self, member: Member, interval_s: float) -> None:
        """Loaded, without new requests."""
        replica = self._shapes[member.shape].replica
        cause = Cause.STARTUP if member.state is ReplicaState.STARTING else Cause.IDLE
        gpu_s = replica.tensor_parallel * interval_s
        self._books.energy_j[cause] += replica.loaded_idle_w(member.clock_mhz) * gpu_s
        self._books.gpu_s += gpu_s
        if member.state is ReplicaState.SERVING:
            member.gauges = IDLE

    def _flows(self, counts: Numbers, interval_s: float) -> tuple[list[PoolFlow], Numbers]:
        """What the pools are given, and what none of them can take: [predicted class, actual class]."""
        kinds = [self._kinds(pool) for pool in range(len(self._eligible))]
        capacity_rps = np.array(
            [sum(len(kind.members) * kind.limit_rps for kind in pool if kind.takes) for pool in kinds]
        )
        parts = pool_parts(self._shares, self._eligible, capacity_rps)
        new = (counts[:, None] * self._confusion).T + self._waiting
        flows = [
            PoolFlow([self._given(kind, part @ new) for kind in pool], part @ new, part @ self._waiting, interval_s)
            for pool, part in zip(kinds, parts, strict=True)
        ]
        return [flow for flow in flows if flow.kinds], (1 - parts.sum(axis=0))[:, None] * new

    def _kinds(self, pool: int) -> list[Kind]:
        """Replicas that get new requests, open ones or all where none is open, and those that still have a queue."""
        living = [member for member in self._living if member.pool == pool]
        serving = [member for member in living if member.state is ReplicaState.SERVING]
        taking = {member.id for member in serving if member.is_open} or {member.id for member in serving}
        groups: dict[tuple[object, ...], list[Member]] = {}
        for member in living:
            takes, queued = member.id in taking, float(member.queue.sum())
            if takes or queued:
                groups.setdefault((member.shape, member.clock_mhz, takes, round(queued, 3)), []).append(member)
        return [self._kind(pool, members, takes=members[0].id in taking) for members in groups.values()]

    def _kind(self, pool: int, members: Sequence[Member], *, takes: bool) -> Kind:
        return Kind(members, takes, *self._models.of(pool, members[0].shape))

    def _given(self, kind: Kind, arrived: Numbers) -> Kind:
        """The same replicas, by the mix of what their pool is given of each class."""
        found = self._models.of(kind.members[0].pool, kind.members[0].shape, arrived)
        return kind if found.table is kind.table else Kind(kind.members, kind.takes, *found)

    def _bury(self) -> None:
        """Forget who is gone. What should still have been waiting there waits for others."""
        for member in self._living:
            if member.state is ReplicaState.GONE:
                self._waiting += np.diag(member.queue)
        self._living = [member for member in self._living if member.state is not ReplicaState.GONE]

    def _check(self, shape: int, clock_mhz: float) -> None:
        gpu = self._shapes[shape].replica.gpu
        if clock_mhz not in gpu.supported_clocks_mhz:
            raise InvalidInputError(f"clock {clock_mhz} MHz: {gpu.name} does not support it")

    def _snapped(self, shape: int, clock_mhz: float) -> float:
        """The nearest clock that the GPU has."""
        supported_mhz = self._shapes[shape].replica.gpu.supported_clocks_mhz
        above = bisect_left(supported_mhz, clock_mhz)
        return float(min(supported_mhz[max(0, above - 1) : above + 1], key=lambda each: abs(each - clock_mhz)))
