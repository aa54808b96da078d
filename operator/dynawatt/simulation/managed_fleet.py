"""A simulated fleet that carries plans out as an operator does: make before break, on real servers.

New replicas take free GPUs of single servers and start up; only when none is
starting any more are those drained that the plan has no use for. A plan whose
new replicas do not all fit beside what runs is refused as a whole and counted:
the policy has to go there in smaller steps.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.fleet_core import FleetCore, FleetSnapshot, ReplicaShape, ReplicaState
from dynawatt.simulation.inventory import Inventory
from dynawatt.simulation.policy import FleetPlan, Group
from dynawatt.simulation.tally import Tally
from dynawatt.workload.objectives import LatencyObjectives


@dataclass(slots=True)
class _Replica:
    group: Group
    ready_s: float
    clock_mhz: float
    draining: bool = False


class ManagedFleet:
    """The driver's fleet; a policy sees it as FleetView.

    Args:
        shapes: What replicas may be.
        eligible: Pools that may serve each class, [pool, class]; None is one pool for all.
        objectives: What latencies are held against.
        servers: Servers in the inventory.
        clock_delay_s: From a clock's command to its effect.
        startup_s: From a replica's creation to Ready; None takes each profile's.
    """

    def __init__(
        self,
        shapes: Sequence[ReplicaShape],
        eligible: NDArray[np.bool_] | None,
        objectives: LatencyObjectives,
        *,
        servers: int,
        clock_delay_s: float,
        startup_s: float | None = None,
    ) -> None:
        """Without any replica."""
        self.core = FleetCore(shapes, objectives, eligible=eligible, clock_delay_s=clock_delay_s)
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
        return self.next_ready_s < inf or bool(self._surplus())

    @property
    def next_ready_s(self) -> float:
        """When the next replica has started up; infinite when none is starting."""
        now_s = self.now_s
        return min((r.ready_s for r in self._replicas.values() if not r.draining and r.ready_s > now_s), default=inf)

    def snapshot(self) -> FleetSnapshot:
        """All replicas as they are now."""
        return self.core.snapshot()

    def tally(self) -> Tally:
        """Totals since the start."""
        return self.core.tally()

    def clock_time(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """By shape, since the start: MHz times seconds, and seconds, summed over replicas."""
        return self._clock_mhz_s.copy(), self._replica_s.copy()

    def begin(self, plan: FleetPlan) -> None:
        """The first fleet, which serves at once. Raises InvalidInputError when it does not fit the inventory."""
        self._clocks_mhz.update(plan.clocks_mhz)
        if not self._grow(Counter(plan.replicas), from_s=None):
            raise InvalidInputError(
                f"initial fleet of {self._gpus(plan)} GPUs does not fit the inventory of {self.inventory.gpus}: "
                "give more servers or fewer replicas"
            )
        self._wanted = Counter(plan.replicas)

    def apply(self, plan: FleetPlan) -> bool:
        """Begin to carry a plan out; False when it is refused, and then nothing changes."""
        self.settle()
        wanted = Counter(plan.replicas)
        missing = wanted - self._present()
        clocks_mhz = self._clocks_mhz
        self._clocks_mhz = {**clocks_mhz, **plan.clocks_mhz}
        if not self._grow(missing, from_s=self.now_s):
            self._clocks_mhz = clocks_mhz
            self.refused_plans += 1
            return False
        self.reconfigurations += missing.total()
        self._wanted = wanted
        self.set_clocks(
            {
                identity: plan.clocks_mhz[replica.group]
                for identity, replica in self._replicas.items()
                if replica.group in plan.clocks_mhz
            }
        )
        self._shrink()
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

    def _grow(self, missing: Counter[Group], *, from_s: float | None) -> bool:
        """Place and create replicas, which start up from ``from_s`` on or serve at once; False if they do not fit."""
        groups = sorted(missing.elements())
        sizes = [self._shapes[group.shape].replica.tensor_parallel for group in groups]
        servers = self.inventory.places(sizes)
        if servers is None:
            return False
        for group, size, server in zip(groups, sizes, servers, strict=True):
            profile = self._shapes[group.shape].replica
            clock_mhz = self._clocks_mhz.get(group, profile.gpu.default_clock_mhz)
            startup_s = profile.model.startup_s if self._startup_s is None else self._startup_s
            ready_s = None if from_s is None else from_s + startup_s
            identity = self.core.add_replica(group.shape, clock_mhz=clock_mhz, ready_s=ready_s, pool=group.pool)
            self.inventory.hold(identity, server, size)
            self._replicas[identity] = _Replica(group, ready_s or 0.0, clock_mhz)
        return True

    def _shrink(self) -> None:
        """Drain what is not wanted. Those that serve stay until nothing is starting up any more."""
        surplus = self._surplus()
        if not surplus:
            return
        starting = {i for i, r in self._replicas.items() if not r.draining and r.ready_s > self.now_s}
        for identity in surplus:
            if identity in starting:
                self._drain(identity)
                starting.discard(identity)
        for identity in surplus if not starting else ():
            if not self._replicas[identity].draining:
                self._drain(identity)

    def _drain(self, identity: int) -> None:
        self.core.drain(identity)
        self._replicas[identity].draining = True
        self.reconfigurations += 1

    def _surplus(self) -> list[int]:
        """Replicas beyond what is wanted: first those still starting, then those whose server is emptiest."""
        found: list[int] = []
        for group, count in (self._present() - self._wanted).items():
            members = [i for i, r in self._replicas.items() if r.group == group and not r.draining]
            members.sort(key=self._usefulness)
            found += members[:count]
        return found

    def _usefulness(self, identity: int) -> tuple[float, int, int]:
        """Sorts replicas of a group: the first is to go first."""
        still_s = max(0.0, self._replicas[identity].ready_s - self.now_s)
        return (-still_s, -self.inventory.free[self.inventory.server_of(identity)], -identity)

    def _present(self) -> Counter[Group]:
        return Counter(replica.group for replica in self._replicas.values() if not replica.draining)

    def _gpus(self, plan: FleetPlan) -> int:
        return sum(count * self._shapes[group.shape].replica.tensor_parallel for group, count in plan.replicas.items())
