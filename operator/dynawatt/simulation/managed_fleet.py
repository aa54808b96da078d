"""A simulated fleet that carries plans out as an operator does: make before break, on real servers.

New replicas take free GPUs of single servers and start up. A serving replica that
a plan has no use for is drained when none of those is starting any more that were
when the plan came: they are to take its load. It does not wait for what later
plans start, or a plan that keeps growing would never let it go. A plan whose new
replicas do not all fit beside what runs is refused as a whole and counted: the
policy has to go there in smaller steps.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaShape, ReplicaState
from dynawatt.simulation.inventory import Inventory
from dynawatt.simulation.policy import FleetPlan, Governed, Group
from dynawatt.simulation.tally import Tally


class ReplicaCore(Protocol):
    """Simulated replicas: ``FleetCore``, iteration by iteration, or ``SurfaceCore``, slot by slot."""

    @property
    def now_s(self) -> float:
        """Virtual time."""
        ...

    def add_replica(self, shape: int, *, clock_mhz: float, ready_s: float | None = None, pool: int = 0) -> int:
        """A new replica's id; it serves from ``ready_s`` on, or at once."""
        ...

    def drain(self, replica: int) -> None:
        """Take no new request, and be gone when the last one has ended."""
        ...

    def set_clock(self, replica: int, clock_mhz: float) -> None:
        """Change a replica's clock."""
        ...

    def reroute_waiting(self, replica: int) -> int:
        """Move its requests that no iteration has worked on to shorter queues; how many there were."""
        ...

    def set_open(self, replica: int, is_open: bool) -> None:
        """Whether a replica gets new requests."""
        ...

    def set_shares(self, shares: NDArray[np.float64] | None) -> None:
        """What part of each class's requests goes to each pool, [pool, class]."""
        ...

    def finish(self, limit_s: float) -> None:
        """Go on without arrivals until all requests have ended, at most to a time."""
        ...

    def snapshot(self) -> FleetSnapshot:
        """All replicas as they are now."""
        ...

    def tally(self) -> Tally:
        """Totals since the start."""
        ...


@dataclass(slots=True)
class _Replica:
    group: Group
    ready_s: float
    clock_mhz: float
    is_open: bool = True
    draining: bool = False
    awaits: frozenset[int] | None = None
    """No plan has a use for it: it is drained when none of these is starting any more. None for one that is wanted."""


class ManagedFleet:
    """The driver's fleet; a policy sees it as FleetView.

    Args:
        core: Without any replica.
        shapes: What replicas may be, as the core knows them.
        servers: Servers in the inventory.
        startup_s: From a replica's creation to Ready; None takes each profile's.
    """

    def __init__(
        self, core: ReplicaCore, shapes: Sequence[ReplicaShape], *, servers: int, startup_s: float | None = None
    ) -> None:
        """Without any replica."""
        self.core = core
        self.inventory = Inventory(servers)
        self.reconfigurations = 0
        """Replicas started or drained since the start."""
        self.clock_changes = 0
        self.refused_plans = 0
        self._shapes = shapes
        self._startup_s = startup_s
        self._replicas: dict[int, _Replica] = {}
        self._wanted: Counter[Group] = Counter()
        self._clocks_mhz: dict[Group, float] = {}
        self._claims: dict[Group, Governed] = {}
        self._open: dict[Group, int] = {}
        self._settled_s = 0.0
        self._clock_mhz_s = np.zeros(len(shapes))
        self._replica_s = np.zeros(len(shapes))

    @property
    def now_s(self) -> float:
        """Virtual time."""
        return self.core.now_s

    @property
    def free_gpus(self) -> Sequence[int]:
        """GPUs that no replica holds, by server."""
        return self.inventory.free

    @property
    def in_transition(self) -> bool:
        """Whether a plan is still being carried out."""
        return self.next_ready_s < inf or any(r.awaits is not None and not r.draining for r in self._replicas.values())

    @property
    def next_ready_s(self) -> float:
        """When the next replica has started up; infinite when none is starting."""
        now_s = self.now_s
        return min((r.ready_s for r in self._replicas.values() if not r.draining and r.ready_s > now_s), default=inf)

    @property
    def claims(self) -> Mapping[int, Governed]:
        """By replica id, of those whose clocks are left to governors."""
        if not self._claims:
            return {}
        return {i: self._claims[r.group] for i, r in self._replicas.items() if r.group in self._claims}

    def snapshot(self) -> FleetSnapshot:
        """All replicas as they are now."""
        return self.core.snapshot()

    def tally(self) -> Tally:
        """Totals since the start."""
        return self.core.tally()

    def reroute_waiting(self, replica: int) -> int:
        """Move its requests that no iteration has worked on to shorter queues; how many there were."""
        return self.core.reroute_waiting(replica)

    def clock_time(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """By shape, since the start: MHz times seconds, and seconds, summed over replicas."""
        return self._clock_mhz_s.copy(), self._replica_s.copy()

    def begin(self, plan: FleetPlan) -> None:
        """The first fleet, which serves at once. Raises InvalidInputError when it does not fit the inventory."""
        wanted = Counter(plan.replicas or {})
        self._take_orders(plan)
        if not self._grow(wanted, from_s=None):
            gpus = sum(count * self._gpus(group) for group, count in wanted.items())
            raise InvalidInputError(
                f"initial fleet of {gpus} GPUs does not fit the inventory of {self.inventory.gpus}: "
                "give more servers or fewer replicas"
            )
        self._wanted = wanted
        self._open_and_close()

    def apply(self, plan: FleetPlan) -> bool:
        """Begin to carry a plan out; False when it is refused, and then nothing changes."""
        self.settle()
        if plan.replicas is not None:
            wanted = Counter(plan.replicas)
            missing = wanted - self._present()
            if not self._fits(missing):
                self.refused_plans += 1
                return False
            self._wanted = wanted
        self._take_orders(plan)
        if plan.replicas is not None:
            self._grow(missing, from_s=self.now_s)
            self.reconfigurations += missing.total()
            self._choose_leaving()
        self.set_clocks(
            {
                identity: plan.clocks_mhz[replica.group]
                for identity, replica in self._replicas.items()
                if replica.group in plan.clocks_mhz
            }
        )
        self._shrink()
        self._open_and_close()
        return True

    def set_clocks(self, clocks_mhz: Mapping[int, float]) -> None:
        """Command clocks by replica id; only changes count and are sent. Replicas that are gone are passed over."""
        for identity, clock_mhz in clocks_mhz.items():
            replica = self._replicas.get(identity)
            if replica is not None and replica.clock_mhz != clock_mhz:
                self.core.set_clock(identity, clock_mhz)
                replica.clock_mhz = clock_mhz
                self.clock_changes += 1

    def settle(self) -> None:
        """Take note of what time has brought: GPUs given back, start-ups that ended."""
        passed_s = self.now_s - self._settled_s
        self._settled_s = self.now_s
        for replica in self._replicas.values():
            self._clock_mhz_s[replica.group.shape] += replica.clock_mhz * passed_s
            self._replica_s[replica.group.shape] += passed_s
        if any(replica.draining for replica in self._replicas.values()):
            found = self.core.snapshot()
            living = set(found.id[found.state != ReplicaState.GONE].tolist())
            for identity in [i for i, replica in self._replicas.items() if replica.draining and i not in living]:
                self.inventory.release(identity)
                del self._replicas[identity]
        self._shrink()
        self._open_and_close()

    def _take_orders(self, plan: FleetPlan) -> None:
        """Remember what a plan says about groups: it holds for replicas to come as well."""
        self._claims = {group: claim for group, claim in self._claims.items() if group not in plan.clocks_mhz}
        self._claims.update(plan.governed)
        self._clocks_mhz.update(plan.clocks_mhz)
        # A governor begins at its ceiling.
        self._clocks_mhz.update({group: float(claim.ceiling_mhz) for group, claim in plan.governed.items()})
        self._open.update(plan.open_replicas)
        if plan.shares is not None:
            self.core.set_shares(plan.shares)

    def _fits(self, missing: Counter[Group]) -> bool:
        return self.inventory.places([self._gpus(group) for group in missing.elements()]) is not None

    def _grow(self, missing: Counter[Group], *, from_s: float | None) -> bool:
        """Place and create replicas, which start up from ``from_s`` on or serve at once; False if they do not fit."""
        groups = sorted(missing.elements())
        servers = self.inventory.places([self._gpus(group) for group in groups])
        if servers is None:
            return False
        for group, server in zip(groups, servers, strict=True):
            profile = self._shapes[group.shape].replica
            clock_mhz = self._clocks_mhz.get(group, profile.gpu.default_clock_mhz)
            startup_s = profile.model.startup_s if self._startup_s is None else self._startup_s
            ready_s = None if from_s is None else from_s + startup_s
            identity = self.core.add_replica(group.shape, clock_mhz=clock_mhz, ready_s=ready_s, pool=group.pool)
            self.inventory.hold(identity, server, self._gpus(group))
            self._replicas[identity] = _Replica(group, ready_s or 0.0, clock_mhz)
        return True

    def _choose_leaving(self) -> None:
        """Drop what starts and is not wanted, and say of what serves and is not wanted what it waits for."""
        surplus = set(self._surplus())
        starting = self._starting()
        for identity in starting & surplus:
            self._drain(identity)
        starting -= surplus
        for identity, replica in self._replicas.items():
            if identity not in surplus:
                replica.awaits = None
            elif replica.awaits is None or any(self._was_dropped(awaited) for awaited in replica.awaits):
                replica.awaits = frozenset(starting)

    def _was_dropped(self, identity: int) -> bool:
        return identity not in self._replicas or self._replicas[identity].draining

    def _shrink(self) -> None:
        """Drain what is not wanted and has nothing to wait for any more."""
        leaving = {i: r.awaits for i, r in self._replicas.items() if r.awaits is not None and not r.draining}
        if leaving:
            starting = self._starting()
            for identity, awaits in leaving.items():
                if not awaits & starting:
                    self._drain(identity)

    def _drain(self, identity: int) -> None:
        self.core.drain(identity)
        self._replicas[identity].draining = True
        self.reconfigurations += 1

    def _open_and_close(self) -> None:
        """Let the oldest serving replicas of a group be open, as many as its plan says."""
        for group, count in self._open.items():
            serving = [
                (identity, replica)
                for identity, replica in self._replicas.items()
                if replica.group == group and not replica.draining and replica.ready_s <= self.now_s
            ]
            # Ids ascend, and so do the items.
            for place, (identity, replica) in enumerate(serving):
                if replica.is_open != (place < count):
                    replica.is_open = place < count
                    self.core.set_open(identity, replica.is_open)

    def _starting(self) -> set[int]:
        return {i for i, r in self._replicas.items() if not r.draining and r.ready_s > self.now_s}

    def _surplus(self) -> list[int]:
        """Replicas beyond what is wanted.

        Those still starting go first, then those that are leaving already, closed ones, those whose server is emptiest.
        """
        found: list[int] = []
        for group, count in (self._present() - self._wanted).items():
            members = [i for i, r in self._replicas.items() if r.group == group and not r.draining]
            members.sort(key=self._usefulness)
            found += members[:count]
        return found

    def _usefulness(self, identity: int) -> tuple[float, bool, bool, int, int]:
        """Sorts replicas of a group: the first is to go first."""
        replica = self._replicas[identity]
        still_s = max(0.0, replica.ready_s - self.now_s)
        free = self.inventory.free[self.inventory.server_of(identity)]
        return (-still_s, replica.awaits is None, replica.is_open, -free, -identity)

    def _present(self) -> Counter[Group]:
        return Counter(replica.group for replica in self._replicas.values() if not replica.draining)

    def _gpus(self, group: Group) -> int:
        return self._shapes[group.shape].replica.tensor_parallel
