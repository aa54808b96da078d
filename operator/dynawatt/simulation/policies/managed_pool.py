"""One pool under our policies: its shapes, its load, its plan and how many of its replicas are open."""

from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.planning.demand import DemandForecast
from dynawatt.planning.service import FixedClock, ServicePlan, ServiceState
from dynawatt.routing.packing import Packing
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaState
from dynawatt.simulation.policies.dynawatt_shapes import ShapeChoice, fewest_gpus
from dynawatt.simulation.policies.pool_load import PoolLoad
from dynawatt.simulation.policy import Group
from dynawatt.simulation.study import Knobs

_FIRST_SLOTS: Final = 3
"""The first fleet must carry what these are forecast to bring: it cannot grow sooner."""


@dataclass(slots=True, eq=False)
class ManagedPool:
    """State of one run."""

    choices: dict[Group, ShapeChoice]
    """By group; a group is a shape in this pool."""
    load: PoolLoad
    knobs: Knobs
    peak_rps: float
    """What a fleet must carry that is never changed."""
    wanted: dict[Group, int] = field(default_factory=dict)
    """Replicas by the last plan."""
    _demand: DemandForecast | None = None
    """What the last plan was made for."""
    _changed_s: float = -inf
    _packing: dict[Group, Packing] = field(default_factory=dict)
    _open: dict[Group, int] = field(default_factory=dict)

    def gpus_for_peak(self) -> float:
        """The fewest GPUs that carry the peak; infinite when none do."""
        return fewest_gpus(list(self.choices.values()), self.peak_rps)

    def first_fleet(self, most_gpus: float) -> dict[Group, int]:
        """For what the first minutes are forecast to bring; as large as can be when nothing is known."""
        demand = self.load.demand(0.0)
        wanted_rps = inf if demand is None else float(demand.high_rps[:_FIRST_SLOTS].max())
        self.wanted = self._least_fleet(wanted_rps if self.knobs.replicas else self.peak_rps, most_gpus)
        return self.wanted

    def state(self, now_s: float, fleet: FleetSnapshot) -> ServiceState | None:
        """As the planner takes it; None while nothing is known of the load."""
        self._demand = self.load.demand(now_s)
        if self._demand is None:
            return None
        return ServiceState(
            curves={choice.name: choice.curve for choice in self.choices.values()},
            ready=self._counts(fleet, ReplicaState.SERVING),
            starting=self._counts(fleet, ReplicaState.STARTING),
            demand=self._demand,
            present_rps=self.load.sustained_rps(),
            may_scale=self.knobs.replicas,
            may_reshape=self.knobs.replicas and self.knobs.shape,
            fixed_clock=None if self.knobs.clock else FixedClock(),
            since_change_s=now_s - self._changed_s,
        )

    def take(self, plan: ServicePlan, now_s: float) -> None:
        """Make a plan the present one."""
        if not plan.shape:
            return
        group = next(group for group, choice in self.choices.items() if choice.name == plan.shape)
        wanted = {group: plan.replicas}
        if wanted != self.wanted:
            self.wanted, self._changed_s = wanted, now_s

    def recalibrate(self, group: Group, choice: ShapeChoice) -> None:
        """Plan with other figures of the same shape from now on; replicas stay open as they are."""
        self.choices[group] = choice
        if (packing := self._packing.get(group)) is not None:
            packing.know(choice.curve)

    def outgrown(self) -> bool:
        """Whether the load is beyond what the plan is ready for, and not by a burst."""
        return self._demand is not None and self.load.sustained_rps() > float(self._demand.high_rps[0])

    def newly_open(self, now_s: float, fleet: FleetSnapshot) -> dict[Group, int]:
        """How many replicas of each group are to get requests, where that changed."""
        changes: dict[Group, int] = {}
        serving = {group: _members(fleet, group, ReplicaState.SERVING) for group in self.choices}
        carried_rps = {
            group: self.choices[group].curve.capacity_rps(int(rows.sum())) for group, rows in serving.items()
        }
        total_rps = sum(carried_rps.values())
        for group, rows in serving.items():
            count = int(rows.sum())
            if not count or not self.knobs.packing:
                continue
            rate_rps = self.load.busiest_rps() * (carried_rps[group] / total_rps if total_rps > 0 else 1.0)
            packing = self._packing.setdefault(group, Packing(self.choices[group].curve))
            opened = packing.step(now_s, rate_rps, count, int(fleet.waiting[rows].sum()))
            if self._open.get(group) != opened:
                self._open[group] = changes[group] = opened
        return changes

    def bracing(self, fleet: FleetSnapshot) -> frozenset[Group]:
        """Groups in which the load of draining replicas goes to the others at once, or is about to."""
        return frozenset(
            group
            for group in self.choices
            if _members(fleet, group, ReplicaState.DRAINING).any()
            or int(_members(fleet, group, ReplicaState.SERVING).sum()) > self.wanted.get(group, 0)
        )

    def sharing(self, group: Group) -> int:
        """Replicas among which a group's load is shared."""
        wanted = self.wanted.get(group, 1)
        return min(wanted, self._open.get(group, wanted))

    def fixed_clock_mhz(self, group: Group) -> int:
        """The clock of a group that holds until the next plan: that of the load to be ready for now."""
        high_rps = self.peak_rps if self._demand is None else float(self._demand.high_rps[0])
        return self.choices[group].curve.clock_mhz(self.sharing(group), high_rps)

    def _counts(self, fleet: FleetSnapshot, state: ReplicaState) -> dict[str, int]:
        """Replicas by the name of their shape."""
        counts = {choice.name: int(_members(fleet, group, state).sum()) for group, choice in self.choices.items()}
        return {name: count for name, count in counts.items() if count}

    def _least_fleet(self, rate_rps: float, most_gpus: float) -> dict[Group, int]:
        """The fleet that carries a rate for the fewest watts beyond released GPUs, or else that carries most."""
        curves = {group: choice.curve for group, choice in self.choices.items()}
        most = {group: int(min(curve.most_replicas, most_gpus // curve.gpus)) for group, curve in curves.items()}
        carrying = [
            (curve.power_w(count, rate_rps) - count * curve.released_w, group, count)
            for group, curve in curves.items()
            for count in range(1, most[group] + 1)
            if curve.capacity_rps(count) >= rate_rps
        ]
        if carrying:
            _, group, count = min(carrying)
            return {group: count}
        strongest = max(most, key=lambda group: curves[group].capacity_rps(most[group]))
        return {strongest: most[strongest]}


def _members(fleet: FleetSnapshot, group: Group, state: ReplicaState) -> NDArray[np.bool_]:
    return np.asarray((fleet.state == state) & (fleet.shape == group.shape) & (fleet.pool == group.pool))
