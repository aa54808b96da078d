"""A fleet with pools by request class, and DynamoLLM's managers, any of which may be missing.

With none of them it is multi-pool; with one, scale-inst, scale-shard or scale-freq;
with all of them DynamoLLM.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.fleet_core import ReplicaShape, ReplicaState
from dynawatt.simulation.policies.pools import Numbers
from dynawatt.simulation.policies.pools_clocks import LOOK_S, InstanceManager
from dynawatt.simulation.policies.pools_forecast import ClassForecast
from dynawatt.simulation.policies.pools_layout import PoolLayout
from dynawatt.simulation.policies.pools_managers import SPLIT_S, ClusterManager, PoolManagers
from dynawatt.simulation.policies.pools_profile import PoolProfile
from dynawatt.simulation.policies.pools_sizing import predicted_loads
from dynawatt.simulation.policies.pools_steps import Fleet, next_step
from dynawatt.simulation.policy import FleetPlan, FleetView, Group

_STEP_S: Final = 60.0
"""How often a plan that was begun goes on."""


@dataclass(slots=True, eq=False)
class PooledPolicy:
    """One object is for one run at a time; ``initial`` begins a new one."""

    name: str
    layout: PoolLayout
    predictor: LengthPredictor
    forecast: ClassForecast
    static_sizes: Sequence[int]
    """Replicas of the first shape by pool, for the peak."""
    servers: int
    """That it needs, at least those of the comparison."""
    startup_s: float
    cluster_manager: ClusterManager | None = None
    pool_managers: PoolManagers | None = None
    instance_manager: InstanceManager | None = None
    _wanted: Fleet = field(default_factory=Counter)
    _decided: int = -1
    """Number of the interval of the pool managers that was last decided on."""
    _offered: Numbers = field(default_factory=lambda: np.zeros((0, 0)))
    """[pool of requests, class]: what pools are expected to get at present."""
    _shared_for: tuple[int, Fleet] = (-1, Counter())
    """The interval and the serving replicas that the shares were made for."""

    @property
    def shapes(self) -> Sequence[ReplicaShape]:
        """All that splits may use."""
        return self.layout.shapes

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """Pools may serve the classes that they dominate."""
        return self.layout.eligible

    @property
    def pool_classes(self) -> Sequence[tuple[int, ...]]:
        """Those of the pools of requests, once per shape."""
        return self.layout.pool_classes

    @property
    def plan_interval_s(self) -> float | None:
        """None for a fleet that stays as it is."""
        return _STEP_S if self.cluster_manager or self.pool_managers else None

    @property
    def govern_interval_s(self) -> float | None:
        """None without instance managers."""
        return LOOK_S if self.instance_manager else None

    def initial(self) -> FleetPlan:
        """The first shape alone, sized for the first epoch; a static fleet for the peak."""
        for part in (self.forecast, self.cluster_manager, self.pool_managers, self.instance_manager):
            if part is not None:
                part.forget()
        sizes = self._sizes(0.0)
        self._wanted = Counter({self.layout.group(row, 0): count for row, count in enumerate(sizes) if count})
        self._decided = 0
        return FleetPlan(dict(self._wanted), shares=self._shares(0, self._wanted))

    def plan(self, now_s: float, view: FleetView) -> FleetPlan | None:
        """One more step towards the fleet that the managers want; they are asked anew when their time has come."""
        self.forecast.observe(now_s, view.tally().requests)
        serving = serving_in(view)
        interval = int(now_s // SPLIT_S)
        step: Fleet | None = None
        if not view.in_transition:
            if interval > self._decided:
                self._decided = interval
                self._wanted = self._decide(now_s, serving)
            if serving != self._wanted:
                step = self._next_step(now_s, serving, view)
        shares = None if self._shared_for == (interval, serving) else self._shares(interval, serving)
        if step is None and shares is None:
            return None
        return FleetPlan(None if step is None else dict(step), shares=shares)

    def govern(self, now_s: float, view: FleetView) -> Mapping[int, float]:
        """What the instance managers say."""
        if self.instance_manager is None:
            return {}
        return self.instance_manager.step(now_s, view, self._profile, self._patience_s)

    def _next_step(self, now_s: float, serving: Fleet, view: FleetView) -> Fleet | None:
        loads = self._loads(now_s, now_s + SPLIT_S)
        overload = self.layout.spill(loads, serving).overload
        return next_step(
            serving,
            self._wanted,
            view.free_gpus,
            self.layout.gpus,
            lambda fleet: self.layout.spill(loads, fleet).overload <= overload,
        )

    def _decide(self, now_s: float, serving: Fleet) -> Fleet:
        sizes = self._sizes(now_s)
        if self.pool_managers is None:
            return Counter({self.layout.group(row, 0): count for row, count in enumerate(sizes) if count})
        loads = self._loads(now_s, now_s + 2 * SPLIT_S + self.startup_s)
        return self.pool_managers.split(sizes, loads, serving)

    def _sizes(self, now_s: float) -> Sequence[int]:
        return self.cluster_manager.sizes(now_s, self._loads) if self.cluster_manager else self.static_sizes

    def _loads(self, begin_s: float, end_s: float) -> Numbers:
        """Peak work per second by predicted class."""
        return predicted_loads(self.forecast.peak_rps(begin_s, end_s), self.layout.tables.work, self.predictor)

    def _shares(self, interval: int, serving: Fleet) -> Numbers:
        found = self.layout.spill(self._loads(interval * SPLIT_S, (interval + 1) * SPLIT_S), serving)
        self._offered, self._shared_for = found.loads, (interval, serving)
        return self.layout.shares(found, serving)

    def _profile(self, group: Group) -> PoolProfile | None:
        row = self.layout.row(group.pool)
        return self.layout.profiles(row, self._offered[row])[group.shape]

    def _patience_s(self, fleet_pool: int) -> float:
        """The shortest objective of the classes that a pool gets."""
        row = self.layout.row(fleet_pool)
        gets = self._offered[row] > 0
        gets[list(self.layout.pools[row].classes)] = True
        return float(self.layout.tables.objectives_s[gets].min())


def serving_in(view: FleetView) -> Fleet:
    """Replicas that serve, by group."""
    found = view.snapshot()
    rows = found.state == ReplicaState.SERVING
    return Counter(
        Group(int(shape), int(pool)) for shape, pool in zip(found.shape[rows], found.pool[rows], strict=True)
    )
