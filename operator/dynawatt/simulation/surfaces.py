"""Builds surfaces: simulated replicas over clock x load, for a mix and an SLO.

Percentile latency under continuous batching has no closed form, so every point
is a simulation under Poisson arrivals. All points share one stream of random
numbers (stretched to each rate), which makes them comparable and the surface
monotone where it should be.
"""

from collections.abc import Sequence
from math import log2

import numpy as np

from dynawatt.perfmodel.catalog import ReplicaModels
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.simulation.engine import EngineSettings
from dynawatt.simulation.fleet import FleetResult, replay
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

_LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Fractions of the saturation rate that are simulated at each clock."""
_HOPELESS = 0.95
"""Below this attainment higher loads at the same clock are not simulated."""


def clock_grid(models: ReplicaModels, min_mhz: int, step_mhz: int = 195) -> list[int]:
    """Supported clocks from ``min_mhz`` to the default, about ``step_mhz`` apart, both ends included."""
    supported = [clock for clock in models.gpu.supported_clocks_mhz if clock >= min_mhz]
    if not supported:
        return [models.gpu.default_clock_mhz]
    stride = max(1, step_mhz // models.gpu.clock_step_mhz)
    return sorted(set(supported[::-1][::stride]) | {supported[0]})


def build_surface(
    models: ReplicaModels,
    settings: EngineSettings,
    mix: LengthMix,
    objectives: LatencyObjectives,
    clocks_mhz: Sequence[int],
    *,
    fleet_sizes: Sequence[int] = (1, 2, 4),
    requests: int = 400,
    seed: int = 1,
) -> Surface:
    """Simulate fleets of every size, which must begin with 1, at every clock and load.

    ``requests`` arrive at a single replica, and half as many more at each doubling of the fleet.
    """
    top_rps = _saturation_rps(models, settings, mix, max(clocks_mhz))

    def row(size: int, clock_mhz: int) -> list[SurfacePoint]:
        arriving = round(requests * (1 + log2(size) / 2))
        idle_w = models.tensor_parallel * models.power.loaded_idle_w(clock_mhz)
        points = [SurfacePoint(0.0, 1.0, 1.0, 0.0, 0.0, idle_w)]
        for load in _LOADS:
            rate_rps = load * top_rps
            arrivals = _poisson_trace(mix, arriving, rate_rps * size, seed)
            result = replay(arrivals, models, settings, replicas=size, clock_mhz=clock_mhz, objectives=objectives)
            points.append(_point(rate_rps, result, size))
            if not points[-1].attains(_HOPELESS):
                break
        return points

    rows = {size: {clock_mhz: row(size, clock_mhz) for clock_mhz in clocks_mhz} for size in fleet_sizes}
    return Surface(
        tensor_parallel=models.tensor_parallel,
        released_w=models.power.released_w,
        loaded_idle_w=models.power.loaded_idle_w(models.gpu.default_clock_mhz),
        points=rows.pop(1),
        shared_points=rows,
    )


def _poisson_trace(mix: LengthMix, requests: int, rate_rps: float, seed: int) -> Trace:
    """Poisson arrivals with lengths drawn from the mix; at another rate the same ones, stretched in time."""
    rng = np.random.default_rng(seed)
    pick = rng.integers(len(mix.input_tokens), size=requests)
    return Trace(
        arrival_s=np.cumsum(rng.exponential(1.0, size=requests)) / rate_rps,
        input_tokens=mix.input_tokens[pick],
        output_tokens=mix.output_tokens[pick],
    )


def _saturation_rps(models: ReplicaModels, settings: EngineSettings, mix: LengthMix, clock_mhz: int) -> float:
    """Throughput of a replica that never runs dry: the upper end of the load axis."""
    burst = _poisson_trace(mix, 400, rate_rps=1e6, seed=2)
    objectives = LatencyObjectives(ttft=((None, 1.0),), tbt_s=1.0)
    result = replay(burst, models, settings, replicas=1, clock_mhz=clock_mhz, objectives=objectives)
    return len(burst.arrival_s) / result.end_s


def _point(rate_rps: float, result: FleetResult, replicas: int) -> SurfacePoint:
    return SurfacePoint(
        rate_rps=rate_rps,
        ttft_attainment=result.ttft_attainment,
        tbt_attainment=result.tbt_attainment,
        ttft_p99_s=float(np.quantile(result.ttft_s, 0.99)),
        tbt_p99_s=result.tbt_quantile_s(0.99),
        power_w=result.energy_j / result.end_s / replicas,
    )
