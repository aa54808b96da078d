"""Builds surfaces: simulated replicas over clock x load, for a mix, an arrival process and an SLO.

Percentile latency under continuous batching has no closed form, so every point
is a simulation (``simulation.operating_point``). Loads are a grid up to the
saturation of each clock, and finer ones around the capacities that are asked
for (``simulation.load_sweep``).
"""

from typing import Final

from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.load_sweep import LoadSweep, fleet_sweep
from dynawatt.simulation.operating_point import saturation_rps
from dynawatt.simulation.surface_question import SurfaceQuestion

_LOADS: Final = (0.02, 0.05, 0.1, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Fractions of the saturation rate of a clock that are simulated whatever the SLO; close together where a few requests
already keep a replica busy, and watts rise steeply."""
_HOPELESS: Final = 5.0
"""A row ends with the first load that misses so many times what the least of the wanted attainments allows."""


def clock_grid(models: ReplicaProfile, min_mhz: int, step_mhz: int = 195) -> list[int]:
    """Supported clocks from ``min_mhz`` to the default, about ``step_mhz`` apart, both ends included."""
    supported = [clock for clock in models.gpu.supported_clocks_mhz if clock >= min_mhz]
    if not supported:
        return [models.gpu.default_clock_mhz]
    stride = max(1, step_mhz // models.gpu.clock_step_mhz)
    return sorted(set(supported[::-1][::stride]) | {supported[0]})


def build_surface(question: SurfaceQuestion) -> Surface:
    """Simulate fleets of every size at every clock; the same question gives the same surface."""
    replica = question.replica
    shape = ReplicaShape(replica, question.settings)
    loads = {size: question.load(size) for size in question.fleet_sizes}
    rows: dict[int, dict[int, tuple[SurfacePoint, ...]]] = {size: {} for size in question.fleet_sizes}
    for clock_mhz in question.clocks_mhz:
        limit_rps = saturation_rps(shape, question.mix, clock_mhz)
        for size, row in rows.items():
            sweep = fleet_sweep(
                shape, question.objectives, loads[size], replicas=size, clock_mhz=clock_mhz, limit_rps=limit_rps
            )
            row[clock_mhz] = _row(question, sweep)
    return Surface(
        tensor_parallel=replica.tensor_parallel,
        released_w=replica.released_w,
        loaded_idle_w=replica.loaded_idle_w(replica.gpu.default_clock_mhz),
        points=rows.pop(1),
        shared_points=rows,
    )


def _row(question: SurfaceQuestion, sweep: LoadSweep) -> tuple[SurfacePoint, ...]:
    hopeless = 1 - _HOPELESS * (1 - min(question.attainments))
    for load in _LOADS:
        if not sweep.at(load * sweep.saturation_rps).attains(hopeless):
            break
    for fraction in question.attainments:
        sweep.bracket(fraction)
    return sweep.row
