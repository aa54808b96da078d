"""A surface: what one replica of a shape does at a clock and a load, for one mix and one SLO.

Built by simulation (``simulation.surfaces``), asked by the planner. Between
grid points everything is linear in the load. Attainment falls ever faster with
the load, so the line stays below the curve and promises no more than is so.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field


@dataclass(frozen=True, slots=True)
class SurfacePoint:
    """One replica at one clock under one arrival rate."""

    rate_rps: float
    ttft_attainment: float
    tbt_attainment: float
    ttft_p99_s: float
    tbt_p99_s: float
    power_w: float
    """All GPUs of the replica."""

    def attains(self, fraction: float) -> bool:
        """Whether both attainments reach ``fraction``."""
        return self.attainment >= fraction

    @property
    def attainment(self) -> float:
        """The lower of both attainments."""
        return min(self.ttft_attainment, self.tbt_attainment)

    def towards(self, other: "SurfacePoint", rate_rps: float) -> "SurfacePoint":
        """Linear interpolation between two loads."""
        share = (rate_rps - self.rate_rps) / (other.rate_rps - self.rate_rps)
        here, there = astuple(self), astuple(other)
        return SurfacePoint(*(a + share * (b - a) for a, b in zip(here, there, strict=True)))


@dataclass(frozen=True, slots=True)
class Surface:
    """Points by clock, ascending in rate; the first point of each clock is at rate 0."""

    tensor_parallel: int
    released_w: float
    """Watts of one GPU that no pod holds."""
    loaded_idle_w: float
    """Watts of one GPU of a starting replica, at the default clock."""
    points: Mapping[int, Sequence[SurfacePoint]]
    """Of a replica that serves alone."""
    shared_points: Mapping[int, Mapping[int, Sequence[SurfacePoint]]] = field(default_factory=dict)
    """Of one of several replicas, by how many share the load: each request goes to the one with the fewest, which
    smooths what each of them sees."""

    @property
    def clocks_mhz(self) -> list[int]:
        """Clocks on the grid, ascending."""
        return sorted(self.points)

    def capacity_rps(self, clock_mhz: int, fraction: float, replicas: int = 1) -> float:
        """Highest load of one of ``replicas`` at which, and below which, both attainments reach ``fraction``."""
        lower: SurfacePoint | None = None
        for upper in self._row(clock_mhz, replicas):
            if not upper.attains(fraction):
                if lower is None:
                    return 0.0
                share = (lower.attainment - fraction) / (lower.attainment - upper.attainment)
                return lower.rate_rps + share * (upper.rate_rps - lower.rate_rps)
            lower = upper
        return lower.rate_rps if lower else 0.0

    def at(self, clock_mhz: int, rate_rps: float, replicas: int = 1) -> SurfacePoint:
        """Expected state of one of ``replicas`` at its load; beyond the grid the last point holds."""
        row = self._row(clock_mhz, replicas)
        index = bisect_left(row, rate_rps, key=lambda point: point.rate_rps)
        if index >= len(row):
            return row[-1]
        upper = row[index]
        return upper if index == 0 else row[index - 1].towards(upper, rate_rps)

    def _row(self, clock_mhz: int, replicas: int) -> Sequence[SurfacePoint]:
        """Points for the largest simulated number of replicas that is not above the wanted one."""
        sizes = [size for size in self.shared_points if size <= replicas]
        return (self.shared_points[max(sizes)] if sizes else self.points)[clock_mhz]
