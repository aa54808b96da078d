"""Static fleets and those whose clocks alone are governed, from a study."""

from dataclasses import replace
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.planning.governor_table import governor_table
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.governed_policies import CLOCK_ONLY, ClockOnlyPolicy
from dynawatt.simulation.governor_clocks import governor_clocks
from dynawatt.simulation.policy import Governed
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.static_policies import (
    SINGLE_POOL,
    STATIC_DEADLINE,
    STATIC_PRIORITY,
    VLLM_DEFAULT,
    StaticPolicy,
)
from dynawatt.simulation.static_sizing import static_replicas
from dynawatt.simulation.study import Study

_ORDERS: Final = {STATIC_PRIORITY: QueueOrder.PRIORITY, STATIC_DEADLINE: QueueOrder.DEADLINE}


def static(name: str, study: Study) -> StaticPolicy:
    """The fleet of this name, as large as the peak needs it. Raises InvalidInputError when no fleet meets the SLO."""
    replica, single = study.profiles[study.tensor_parallel], _single_shape(study)
    if name == SINGLE_POOL:
        return _fleet(name, single, study.single_replicas)
    if name == VLLM_DEFAULT:
        settings = study.base_settings(replica, single.settings.queue_order)
        shape: ReplicaShape | None = ReplicaShape(replica, settings)
    else:
        shape = study.tuned(study.tensor_parallel, _ORDERS[name])
    if shape is None:
        raise InvalidInputError(
            f"SLO of {study.fraction:.1%}: a replica of {replica.name} misses it under any load; "
            "loosen the objectives or choose more GPUs per replica"
        )
    return _fleet(name, shape, study.static_replicas or static_replicas(study, shape))


def clock_only(name: str, study: Study) -> ClockOnlyPolicy:
    """The untouched tuned static fleet, its clocks governed, requests waiting in the order of the name.

    Raises InvalidInputError when no clock meets the SLO at any load.
    """
    single, order = _single_shape(study), CLOCK_ONLY[name]
    shape = ReplicaShape(single.replica, replace(single.settings, queue_order=order))
    table = governor_table(
        study.surface(shape),
        shape.replica,
        shape.settings,
        study.mix,
        study.objectives,
        attainment=study.fraction,
        replicas=study.single_replicas,
        urgent_first=order is not QueueOrder.FCFS,
    )
    clocks_mhz = governor_clocks(shape.replica.gpu)
    return ClockOnlyPolicy(name, shape, study.single_replicas, Governed(table, clocks_mhz[0], clocks_mhz[-1]))


def _fleet(name: str, shape: ReplicaShape, replicas: int) -> StaticPolicy:
    return StaticPolicy(name, shape, replicas, shape.replica.gpu.default_clock_mhz)


def _single_shape(study: Study) -> ReplicaShape:
    if study.single_settings is None:
        raise InvalidInputError("the study has no tuned static fleet: tune its prefill chunk first")
    return ReplicaShape(study.profiles[study.tensor_parallel], study.single_settings)
