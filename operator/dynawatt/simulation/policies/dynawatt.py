"""Our own policies: forecast, plan, route and govern with the objects that run live.

They differ in the order in which requests wait, and so in the shapes that suit them.
Every five minutes, and at once when the load leaves its forecast, the planner
chooses shape and replicas of each pool. In between, the router opens as many of
them as the load needs, and each replica's governor sets its clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.routing.pools import eligibility
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaShape
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policies.dynawatt_shapes import ShapeChoice
from dynawatt.simulation.policies.learning import FleetLearning
from dynawatt.simulation.policies.managed_pool import ManagedPool
from dynawatt.simulation.policies.partition import choose_pools
from dynawatt.simulation.policies.pool_load import PoolLoad
from dynawatt.simulation.policy import FleetPlan, FleetView, Governed, Group
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Study
from dynawatt.simulation.tally import Tally
from dynawatt.workload.classes import CLASS_NAMES

DYNAWATT: Final = {
    "dynawatt-fcfs": QueueOrder.FCFS,
    "dynawatt": QueueOrder.PRIORITY,
    "dynawatt-deadline": QueueOrder.DEADLINE,
}
"""Queue order by policy name."""
PLAN_INTERVAL_S: Final = 300.0
ROUTE_INTERVAL_S: Final = 10.0


def dynawatt(name: str, study: Study) -> "DynawattPolicy":
    """One of ours. Raises InvalidInputError when no shape meets the SLO."""
    planner = UnitCommitmentPlanner(packs=study.knobs.packing)
    return DynawattPolicy(name, study, choose_pools(study, DYNAWATT[name]), planner)


@dataclass(slots=True, eq=False)
class DynawattPolicy:
    """Plans replicas, shapes and clocks for the least energy; one object is for one run."""

    name: str
    study: Study
    choices: Sequence[Sequence[ShapeChoice]]
    """The shapes of every pool."""
    planner: UnitCommitmentPlanner
    learning: FleetLearning | None = None
    """Of this run, where profiles are calibrated."""
    _pools: list[ManagedPool] = field(default_factory=list)
    _planned_s: float = 0.0
    _bracing: frozenset[Group] = frozenset()
    """Groups whose claims leave only the ceiling, because replicas drain."""

    @property
    def shapes(self) -> Sequence[ReplicaShape]:
        """Of all pools, one after the other."""
        return [choice.shape for pool in self.choices for choice in pool]

    @property
    def pool_classes(self) -> Sequence[tuple[int, ...]]:
        """As they were split."""
        return [pool[0].classes for pool in self.choices]

    @property
    def eligible(self) -> NDArray[np.bool_] | None:
        """Every pool may also serve what is no longer than its own."""
        return None if len(self.choices) == 1 else eligibility(self.pool_classes)

    @property
    def plan_interval_s(self) -> float:
        """The router's; the planner is asked less often."""
        return ROUTE_INTERVAL_S

    @property
    def govern_interval_s(self) -> None:
        """Governors set the clocks."""

    def initial(self) -> FleetPlan:
        """The fleet for what the first minutes are forecast to bring."""
        self._pools, self._planned_s, self._bracing = [], 0.0, frozenset()
        if self.study.knobs.calibration:
            self.learning = FleetLearning(dict(enumerate(choice for pool in self.choices for choice in pool)))
        shape = 0
        for index, choices in enumerate(self.choices):
            groups = {Group(shape + row, index): choice for row, choice in enumerate(choices)}
            shape += len(choices)
            classes = choices[0].classes
            peak_rps = self.study.peak_rps * float(self.study.class_shares[list(classes)].sum())
            self._pools.append(ManagedPool(groups, PoolLoad(self.study, classes), self.study.knobs, peak_rps))
        replicas = self._first_fleets()
        return FleetPlan(replicas, self._clocks(replicas), self._claims(replicas), shares=self._shares())

    def plan(self, now_s: float, view: FleetView) -> FleetPlan | None:
        """Replicas when it is time to plan; in between only which of them are open."""
        tally, fleet = view.tally(), view.snapshot()
        for pool in self._pools:
            pool.load.observe(now_s, tally)
        learnt = self._learn(now_s, tally, fleet)
        due = learnt or now_s - self._planned_s >= PLAN_INTERVAL_S or any(pool.outgrown() for pool in self._pools)
        if due:
            self._planned_s = now_s
            states = {
                str(index): state
                for index, pool in enumerate(self._pools)
                if (state := pool.state(now_s, fleet)) is not None
            }
            for index, plan in self.planner.plan(states, view.free_gpus).items():
                self._pools[int(index)].take(plan, now_s)
        opened = {group: count for pool in self._pools for group, count in pool.newly_open(now_s, fleet).items()}
        bracing = frozenset(group for pool in self._pools for group in pool.bracing(fleet))
        if not due and not opened and bracing == self._bracing:
            return None
        self._bracing = bracing
        replicas = {group: count for pool in self._pools for group, count in pool.wanted.items()}
        return FleetPlan(replicas if due else None, self._clocks(replicas), self._claims(replicas), opened)

    def govern(self, now_s: float, view: FleetView) -> Mapping[int, float]:
        """Leaves clocks to governors."""
        del now_s, view
        return {}

    def _learn(self, now_s: float, tally: Tally, fleet: FleetSnapshot) -> bool:
        """Plan with other factors where the fleet has shown them; whether it has."""
        if self.learning is None or (shape := self.learning.observe(now_s, tally, fleet)) is None:
            return False
        learnt, choice = self.learning.learnt[shape], self.learning.choices[shape]
        pool = next(index for index, pool in enumerate(self._pools) if Group(shape, index) in pool.choices)
        self._pools[pool].recalibrate(Group(shape, pool), choice.calibrated(learnt.time.value, learnt.power.value))
        return True

    def _first_fleets(self) -> dict[Group, int]:
        """Each pool in turn takes what it wants, but leaves the others what they need at their peaks."""
        found: dict[Group, int] = {}
        room = float(self.study.servers * GPUS_PER_SERVER)
        left_gpus = [pool.gpus_for_peak() for pool in self._pools]
        for index, pool in enumerate(self._pools):
            fleet = pool.first_fleet(room - sum(left_gpus[index + 1 :]))
            room -= sum(count * pool.choices[group].curve.gpus for group, count in fleet.items())
            found.update(fleet)
        return found

    def _claims(self, replicas: Iterable[Group]) -> dict[Group, Governed]:
        if not (self.study.knobs.clock and self.study.knobs.governor):
            return {}
        claims = {}
        for group in replicas:
            pool = self._pools[group.pool]
            claim = pool.choices[group].governed(pool.sharing(group))
            claims[group] = replace(claim, floor_mhz=claim.ceiling_mhz) if group in self._bracing else claim
        return claims

    def _clocks(self, replicas: Iterable[Group]) -> dict[Group, float]:
        """Clocks that hold until the next plan, where no governor sets them."""
        if not self.study.knobs.clock or self.study.knobs.governor:
            return {}
        return {group: float(self._pools[group.pool].fixed_clock_mhz(group)) for group in replicas}

    def _shares(self) -> NDArray[np.float64] | None:
        """Every class to its own pool."""
        if len(self.choices) == 1:
            return None
        return np.array([np.isin(np.arange(len(CLASS_NAMES)), classes) for classes in self.pool_classes], np.float64)
