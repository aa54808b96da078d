"""A fleet of equal replicas at one clock on virtual time, under a trace.

Serves two ends: one replica under Poisson load gives a point of a surface, and
a static fleet under the demo's load gives the baseline that savings are
measured against. Requests go to the replica with the fewest outstanding ones,
as the load generator sends them.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynawatt.perfmodel.catalog import ReplicaModels
from dynawatt.simulation.engine import EngineRequest, EngineSettings, Iteration, ReplicaEngine
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace


@dataclass(slots=True)
class FleetResult:
    """What a replay of a whole trace gave; every request counts."""

    ttft_s: NDArray[np.float64]
    """By request, in trace order."""
    gap_s: NDArray[np.float64]
    gap_counts: NDArray[np.int64]
    """Inter-token gaps and how many requests saw each."""
    ttft_attainment: float
    tbt_attainment: float
    end_s: float
    """When the last request ended."""
    energy_j: float
    """All GPUs of the replicas from 0 to the horizon or the end, whichever is later."""

    def tbt_quantile_s(self, fraction: float) -> float:
        """Quantile over all gaps; 0 without any."""
        if not len(self.gap_s):
            return 0.0
        order = np.argsort(self.gap_s)
        cumulative = np.cumsum(self.gap_counts[order])
        index = int(np.searchsorted(cumulative, fraction * cumulative[-1]))
        return float(self.gap_s[order][min(index, len(order) - 1)])


@dataclass(slots=True)
class _Replica:
    engine: ReplicaEngine
    outstanding: int = 0
    iteration: Iteration | None = None
    busy_s: float = 0.0
    busy_j_per_gpu: float = 0.0


def replay(
    trace: Trace,
    models: ReplicaModels,
    settings: EngineSettings,
    *,
    replicas: int,
    clock_mhz: float,
    objectives: LatencyObjectives,
    horizon_s: float = 0.0,
    on_progress: Callable[[float], None] | None = None,
) -> FleetResult:
    """Run a trace through a static fleet.

    ``on_progress`` is called with the virtual time now and then.
    """
    fleet = [_Replica(ReplicaEngine(settings, models)) for _ in range(replicas)]
    ends: list[tuple[float, int]] = []
    count = len(trace.arrival_s)
    arrivals, inputs, outputs = trace.arrival_s.tolist(), trace.input_tokens.tolist(), trace.output_tokens.tolist()
    ttft_s = np.full(count, np.inf)
    gaps: dict[float, int] = {}
    next_arrival = 0
    now_s = 0.0
    while next_arrival < count or ends:
        if next_arrival < count and (not ends or arrivals[next_arrival] < ends[0][0]):
            now_s = arrivals[next_arrival]
            index = min(range(replicas), key=lambda i: fleet[i].outstanding)
            replica = fleet[index]
            replica.engine.submit(EngineRequest(str(next_arrival), now_s, inputs[next_arrival], outputs[next_arrival]))
            replica.outstanding += 1
            next_arrival += 1
            if on_progress and next_arrival % 500 == 0:
                on_progress(now_s)
            if replica.iteration is not None:
                continue
        else:
            now_s, index = heapq.heappop(ends)
            replica = fleet[index]
            _apply(replica, now_s, ttft_s, gaps)
        replica.iteration = replica.engine.start_iteration(now_s, clock_mhz)
        if replica.iteration is not None:
            heapq.heappush(ends, (now_s + replica.iteration.duration_s, index))
    span_s = max(now_s, horizon_s)
    idle_w = models.power.loaded_idle_w(clock_mhz)
    energy_j = models.tensor_parallel * sum(r.busy_j_per_gpu + (span_s - r.busy_s) * idle_w for r in fleet)
    return _result(trace, objectives, ttft_s=ttft_s, gaps=gaps, end_s=now_s, energy_j=energy_j)


def _apply(replica: _Replica, now_s: float, ttft_s: NDArray[np.float64], gaps: dict[float, int]) -> None:
    iteration = replica.iteration
    assert iteration is not None
    duration_s = iteration.duration_s
    replica.busy_s += duration_s
    replica.busy_j_per_gpu += duration_s * iteration.power_w
    if iteration.decoding:
        # Iterations follow each other without a pause while requests decode, so the gap is the iteration itself.
        gaps[duration_s] = gaps.get(duration_s, 0) + len(iteration.decoding)
    for request in iteration.first_tokens:
        if request.generated_tokens:  # it was preempted after its first token
            gap_s = now_s - request.preempted_s
            gaps[gap_s] = gaps.get(gap_s, 0) + 1
        else:
            ttft_s[int(request.request_id)] = now_s - request.arrival_s
    replica.outstanding -= len(replica.engine.finish_iteration(iteration))
    replica.iteration = None


def _result(
    trace: Trace,
    objectives: LatencyObjectives,
    *,
    ttft_s: NDArray[np.float64],
    gaps: dict[float, int],
    end_s: float,
    energy_j: float,
) -> FleetResult:
    gap_s = np.fromiter(gaps.keys(), dtype=np.float64, count=len(gaps))
    gap_counts = np.fromiter(gaps.values(), dtype=np.int64, count=len(gaps))
    total_gaps = int(gap_counts.sum())
    within = int(gap_counts[gap_s <= objectives.tbt_s].sum())
    met = ttft_s <= objectives.ttft_s_of(trace.input_tokens)
    return FleetResult(
        ttft_s=ttft_s,
        gap_s=gap_s,
        gap_counts=gap_counts,
        ttft_attainment=float(met.mean()) if len(met) else 1.0,
        tbt_attainment=within / total_gaps if total_gaps else 1.0,
        end_s=end_s,
        energy_j=energy_j,
    )
