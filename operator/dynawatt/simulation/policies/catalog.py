"""All policies by name, in the order in which they are reported: from what people start with to what is best."""

from collections.abc import Callable, Mapping
from typing import Final

from dynawatt.simulation.governed_policies import CLOCK_ONLY
from dynawatt.simulation.policies.dynamollm import dynamollm, multi_pool, scale_freq, scale_inst, scale_shard
from dynawatt.simulation.policies.dynawatt import DYNAWATT, dynawatt
from dynawatt.simulation.policies.hpa_queue import HPA_QUEUE, HPA_RUNNING, hpa_queue, hpa_running
from dynawatt.simulation.policies.mean_latency import MEAN_LATENCY, mean_latency
from dynawatt.simulation.policies.static import clock_only, static
from dynawatt.simulation.policy import Policy
from dynawatt.simulation.static_policies import SINGLE_POOL, STATIC_DEADLINE, STATIC_PRIORITY, VLLM_DEFAULT
from dynawatt.simulation.study import Study

Builder = Callable[[str, Study], Policy]
"""Makes the policy of a name for one run. Raises InvalidInputError when the study does not allow it."""

BUILDERS: Final[Mapping[str, Builder]] = {
    SINGLE_POOL: static,
    VLLM_DEFAULT: static,
    STATIC_PRIORITY: static,
    STATIC_DEADLINE: static,
    **dict.fromkeys(CLOCK_ONLY, clock_only),
    "multi-pool": multi_pool,
    "scale-inst": scale_inst,
    "scale-shard": scale_shard,
    "scale-freq": scale_freq,
    "dynamollm": dynamollm,
    HPA_QUEUE: hpa_queue,
    HPA_RUNNING: hpa_running,
    MEAN_LATENCY: mean_latency,
    **dict.fromkeys(DYNAWATT, dynawatt),
}
BOUND: Final = "clairvoyant"
"""No policy: what no plan can go below. It stands beside the others in tables."""
NAMES: Final = (*BUILDERS, BOUND)
ALL: Final = "all"
"""Stands for all names."""
