"""A surface: what one replica of a shape does at a clock and a load, for one mix and one SLO.

Built by simulation (``simulation.surfaces``), asked by the planner. Between
grid points everything is linear in the load. Attainment falls ever faster with
the load, so the line stays below the curve and promises no more than is so.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace


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

    def mixed(self, other: "SurfacePoint", share: float) -> "SurfacePoint":
        """The point at a share of the way to another one."""
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
        return sum(weight * _capacity_rps(points[clock_mhz], fraction) for points, weight in self._neighbours(replicas))

    def at(self, clock_mhz: int, rate_rps: float, replicas: int = 1) -> SurfacePoint:
        """Expected state of one of ``replicas`` at its load.

        Beyond the grid the last point holds, but only for as many requests as it serves: the others come too late.
        """
        (points, _), *others = self._neighbours(replicas)
        found = _at(points[clock_mhz], rate_rps)
        for points, weight in others:
            found = found.mixed(_at(points[clock_mhz], rate_rps), weight)
        return found

    def _neighbours(self, replicas: int) -> list[tuple[Mapping[int, Sequence[SurfacePoint]], float]]:
        """The simulated fleets next below and above a size, with their weights; the largest stands for all above.

        What a fleet gains by one more replica falls with its size, so the line between two sizes promises no more
        than is so.
        """
        fleets = {1: self.points, **self.shared_points}
        below = max(size for size in fleets if size <= max(1, replicas))
        above = min((size for size in fleets if size >= replicas), default=below)
        if above == below:
            return [(fleets[below], 1.0)]
        share = (replicas - below) / (above - below)
        return [(fleets[below], 1 - share), (fleets[above], share)]


def _capacity_rps(row: Sequence[SurfacePoint], fraction: float) -> float:
    lower: SurfacePoint | None = None
    for upper in row:
        if not upper.attains(fraction):
            if lower is None:
                return 0.0
            share = (lower.attainment - fraction) / (lower.attainment - upper.attainment)
            return lower.rate_rps + share * (upper.rate_rps - lower.rate_rps)
        lower = upper
    return lower.rate_rps if lower else 0.0


def _at(row: Sequence[SurfacePoint], rate_rps: float) -> SurfacePoint:
    index = bisect_left(row, rate_rps, key=lambda point: point.rate_rps)
    if index >= len(row):
        last = row[-1]
        served = last.rate_rps / rate_rps
        return replace(last, ttft_attainment=last.ttft_attainment * served, tbt_attainment=last.tbt_attainment * served)
    upper = row[index]
    if index == 0:
        return upper
    lower = row[index - 1]
    return lower.mixed(upper, (rate_rps - lower.rate_rps) / (upper.rate_rps - lower.rate_rps))
