"""What all pooled policies are built from: pools, profiles, static sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.planning.governor_table import SPARE_BUDGET
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.inventory import GPUS_PER_SERVER, servers_for
from dynawatt.simulation.policies.pools import RequestPool, request_pools
from dynawatt.simulation.policies.pools_forecast import ClassForecast
from dynawatt.simulation.policies.pools_layout import PoolLayout
from dynawatt.simulation.policies.pools_policy import PooledPolicy
from dynawatt.simulation.policies.pools_profile import ProfileTables
from dynawatt.simulation.policies.pools_profiling import profile_tables
from dynawatt.simulation.policies.pools_sizing import merged_replicas, own_replicas, predicted_loads, refined_by_replay
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Study

_WORTH_A_POOL: Final = 0.1
"""Replicas that a class keeps busy at the peak; with fewer it joins the next larger one."""


@dataclass(slots=True, eq=False)
class PooledBuilder:
    """What all of them have in common: pools, profiles, static sizes."""

    study: Study
    degrees: tuple[int, ...] = ()
    """Beside that of static fleets."""
    spills: bool = False
    any_clock: bool = False

    @property
    def per_server(self) -> int:
        """Replicas of the first shape."""
        return GPUS_PER_SERVER // self.study.tensor_parallel

    def build(self, name: str) -> PooledPolicy:
        """Without any manager. Raises InvalidInputError when a pool's SLO cannot be met."""
        study, shapes = self.study, self._shapes()
        predictor = LengthPredictor(study.predictor_accuracy, study.seed)
        peak = predicted_loads(study.peak_rps * study.class_shares, study.work(shapes[0]), predictor)
        # Classes that come by wrong predictions alone get no pool: nothing is known of their lengths.
        pools = request_pools(np.where(study.class_shares > 0, peak, 0.0), _WORTH_A_POOL)
        # Sized as single-pool is: without a spare budget.
        at_peak = self._tables(pools, shapes[:1], 0.0)
        if self.spills:
            static = merged_replicas(at_peak, peak, self._most_servers(pools) * self.per_server)
        else:
            static = refined_by_replay(study, pools, shapes[0], own_replicas(at_peak, peak), predictor)
        return PooledPolicy(
            name=name,
            layout=PoolLayout(shapes, self._tables(pools, shapes, SPARE_BUDGET), self.spills, self.any_clock),
            predictor=predictor,
            forecast=ClassForecast(study.history, study.peak_rps * study.class_shares),
            static_sizes=static,
            servers=max(study.servers, servers_for(sum(static), study.tensor_parallel)),
            startup_s=study.startup_of(study.tensor_parallel),
        )

    def _shapes(self) -> tuple[ReplicaShape, ...]:
        """That of static fleets first; without degrees that carry nothing. Raises InvalidInputError."""
        study = self.study
        first = study.tuned(study.tensor_parallel, QueueOrder.FCFS)
        if first is None:
            raise InvalidInputError(
                f"SLO of {study.fraction:.1%}: a replica of {study.profiles[study.tensor_parallel].name} misses it "
                "under any load; loosen the objectives or choose more GPUs per replica"
            )
        others = [degree for degree in self.degrees if degree in study.profiles and degree != study.tensor_parallel]
        tuned = [study.tuned(degree, QueueOrder.FCFS) for degree in others]
        return (first, *(shape for shape in tuned if shape is not None))

    def _tables(
        self, pools: Sequence[RequestPool], shapes: Sequence[ReplicaShape], spare_budget: float
    ) -> ProfileTables:
        return profile_tables(
            self.study, pools, shapes, spare_budget=spare_budget, most_servers=self._most_servers(pools)
        )

    def _most_servers(self, pools: Sequence[RequestPool]) -> int:
        """More than pools can ask for: what is good for a class alone is rarely worse than it is for all."""
        return 4 * self.study.servers + len(pools)
