"""DynamoLLM and the baselines of its paper (Stojkovic et al., HPCA 2025), as well run as stock vLLM allows.

All serve in the order of arrival, with the prefill chunk tuned per degree for the
whole mix, in pools by predicted class. What differs from the paper:

- Stock vLLM cannot re-shard in place. A re-shard starts new replicas beside the old
  ones, which takes a start-up rather than milliseconds, and needs free GPUs.
- Replicas that share a load carry more each, which the tables know.
- Of nine pools most are nearly empty on a small fleet. The paper merges a pool with
  the next larger one when its load drops; here whenever that takes fewer replicas.
- A pool that is offered requests with a shorter objective than its own is planned
  from the profile of the whole mix; the paper does not say what its pools do then.
- Of the emergency steps, deadlines do not order the queue, and nothing is dropped.
"""

from typing import Final

from dynawatt.simulation.policies.pools import Numbers
from dynawatt.simulation.policies.pools_building import PooledBuilder
from dynawatt.simulation.policies.pools_clocks import InstanceManager
from dynawatt.simulation.policies.pools_managers import EPOCH_S, ClusterManager, PoolManagers
from dynawatt.simulation.policies.pools_policy import PooledPolicy
from dynawatt.simulation.policies.pools_profiling import work_per_token
from dynawatt.simulation.policies.pools_sizing import merged_replicas, own_replicas
from dynawatt.simulation.policies.pools_split import SplitRules
from dynawatt.simulation.study import Study

_DEGREES: Final = (8, 4, 2)
"""Tensor-parallel degrees that the paper profiles."""


def multi_pool(name: str, study: Study) -> PooledPolicy:
    """Static pools by class, each sized for its own peak, at the default clock."""
    return PooledBuilder(study).build(name)


def scale_inst(name: str, study: Study) -> PooledPolicy:
    """multi-pool, with as many replicas in every pool as the next half hour needs."""
    builder = PooledBuilder(study)
    policy = builder.build(name)
    tables, static, most = policy.layout.tables, policy.static_sizes, policy.servers * builder.per_server

    def size(loads: Numbers, _: object) -> list[int]:
        """Beyond the inventory no pool gets more than multi-pool gives it, which is enough for the peak."""
        found = own_replicas(tables, loads)
        return found if sum(found) <= most else [min(pair) for pair in zip(found, static, strict=True)]

    policy.cluster_manager = ClusterManager(size, policy.startup_s)
    return policy


def scale_shard(name: str, study: Study) -> PooledPolicy:
    """multi-pool, with the GPUs of every pool split among degrees as is best at the default clock."""
    policy = PooledBuilder(study, degrees=_DEGREES).build(name)
    policy.pool_managers = PoolManagers(policy.layout, SplitRules(any_clock=False, all_gpus=True, worth_s=EPOCH_S))
    return policy


def scale_freq(name: str, study: Study) -> PooledPolicy:
    """multi-pool, with the clock of every replica as its load allows."""
    policy = PooledBuilder(study, any_clock=True).build(name)
    policy.instance_manager = InstanceManager(work_per_token(study, policy.shapes[0]))
    return policy


def dynamollm(name: str, study: Study) -> PooledPolicy:
    """All managers, and pools that spill over and merge."""
    builder = PooledBuilder(study, degrees=_DEGREES, spills=True, any_clock=True)
    policy = builder.build(name)
    layout, most = policy.layout, policy.servers * builder.per_server
    policy.cluster_manager = ClusterManager(
        lambda loads, standing: merged_replicas(layout.tables, loads, most, standing), policy.startup_s
    )
    policy.pool_managers = PoolManagers(layout, SplitRules(any_clock=True, all_gpus=False, worth_s=EPOCH_S))
    policy.instance_manager = InstanceManager(work_per_token(study, policy.shapes[0]))
    return policy
