"""The loads that one fleet was simulated at, and the search for the highest one that meets an SLO."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from dynawatt.perfmodel.surface import SurfacePoint
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.operating_point import UnitLoad, simulate_point
from dynawatt.workload.objectives import LatencyObjectives

_TOLERANCE: Final = 0.02
"""Relative width of the bracket around a capacity."""
_LEAST: Final = 0.01
"""Part of the saturation rate below which a capacity is not worth a replica: it counts as none."""


@dataclass(slots=True)
class LoadSweep:
    """Operating points of a fleet at one clock, each simulated once."""

    simulate: Callable[[float], SurfacePoint]
    """The point at a rate per replica in 1/s."""
    saturation_rps: float
    """Rate that a replica which never runs dry serves."""
    idle: SurfacePoint
    _points: dict[float, SurfacePoint] = field(default_factory=dict)

    @property
    def row(self) -> tuple[SurfacePoint, ...]:
        """All points so far, ascending in rate, the idle one first."""
        return (self.idle, *(self._points[rate_rps] for rate_rps in sorted(self._points)))

    def at(self, rate_rps: float) -> SurfacePoint:
        """The point at this rate, simulated if it is new."""
        if rate_rps not in self._points:
            self._points[rate_rps] = self.simulate(rate_rps)
        return self._points[rate_rps]

    def bracket(self, fraction: float) -> float:
        """Bisect between a load that attains a fraction and one that does not; the former, in 1/s per replica.

        Every simulated load up to the one that is returned attains the fraction: where noise makes the attainment rise
        with the load, the lowest load that misses counts.
        """
        while True:
            low_rps, high_rps = self._ends(fraction)
            if high_rps is None:
                if low_rps >= self.saturation_rps:
                    return low_rps
                middle_rps = self.saturation_rps
            elif high_rps - low_rps <= _TOLERANCE * high_rps or high_rps <= _LEAST * self.saturation_rps:
                return low_rps
            else:
                middle_rps = (low_rps + high_rps) / 2
            self.at(middle_rps)

    def _ends(self, fraction: float) -> tuple[float, float | None]:
        """The lowest load that misses and the highest below it; None where no load misses yet."""
        low_rps = 0.0
        for point in self.row:
            if not point.attains(fraction):
                return low_rps, point.rate_rps
            low_rps = point.rate_rps
        return low_rps, None


def fleet_sweep(
    shape: ReplicaShape,
    objectives: LatencyObjectives,
    load: UnitLoad,
    *,
    replicas: int,
    clock_mhz: float,
    limit_rps: float,
) -> LoadSweep:
    """Loads of equal replicas that share them, none simulated yet; one of them can serve ``limit_rps``."""
    idle_w = shape.replica.tensor_parallel * shape.replica.loaded_idle_w(clock_mhz)
    return LoadSweep(
        simulate=partial(simulate_point, shape, objectives, load, replicas=replicas, clock_mhz=clock_mhz),
        saturation_rps=limit_rps,
        idle=SurfacePoint(0.0, 1.0, 1.0, 0.0, 0.0, idle_w),
    )
