"""What the benchmarks simulate, and how they time it."""

import time
from pathlib import Path

from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.trace_files import read_trace
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.static_policies import SINGLE_POOL, StaticPolicy
from dynawatt.workload.builtin import built_in
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace, joined

MODEL, GPU = "llama-3.1-70b", "h100-sxm"
OBJECTIVES = LatencyObjectives(((256, 0.25), (1024, 0.4), (None, 2.0)), 0.1)
CONVERSATION_2023 = Path(__file__).parents[3] / "shared/data/azure-llm-2023/AzureLLMInferenceTrace_conv.csv"


def shape(tensor_parallel=8, chunk=1024, max_num_seqs=256):
    replica = find_replica(MODEL, GPU, tensor_parallel)
    return ReplicaShape(replica, EngineSettings(chunk, max_num_seqs, replica.kv_capacity_tokens))


def conversation_hour():
    """The published hour of conversations where it is at hand, otherwise the built-in workload made from it."""
    if CONVERSATION_2023.exists():
        return CONVERSATION_2023.name, read_trace(CONVERSATION_2023)
    workload = built_in("azure-2023-conv")
    return workload.name, joined(list(workload.chunks()))


def run(trace: Trace, replicas: int, what: ReplicaShape):
    """One static fleet at the default clock, as ``dynawatt simulate`` runs it."""
    clock_mhz = what.replica.gpu.default_clock_mhz
    policy = StaticPolicy(SINGLE_POOL, what, replicas, clock_mhz)
    return simulate(policy, [trace], OBJECTIVES, SimulationSettings(trace.span_s + 1.0, policy.servers))


def best_of(repeats, work):
    """Result, and the shortest wall time in s: what other processes take away is not the code's."""
    walls_s = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        result = work()
        walls_s.append(time.perf_counter() - started_s)
    return result, min(walls_s)
