"""A surface: what one replica of a shape does at a clock and a load, for one mix, one arrival process and one SLO.

Built by simulation (``simulation.surfaces``), asked by the planner. Between
grid points everything is linear in the load. Attainment falls ever faster with
the load, so the line stays below the curve and promises no more than is so;
around the attainments that are planned for, the grid is so fine that the line
hardly matters.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, TypeAlias, TypeVar

Interval: TypeAlias = tuple[float, float]
"""Lower and upper end of a 95 % confidence interval."""

UNKNOWN: Final[Interval] = (0.0, 1.0)
"""An attainment nobody measured."""


@dataclass(frozen=True, slots=True)
class ClassLatency:
    """Latency of one request-length class at an operating point, counted over all replicas that were simulated."""

    name: str
    """As in ``workload.classes.CLASS_NAMES``."""
    requests: float
    gaps: float
    """How many first tokens and how many inter-token gaps the figures stand on."""
    ttft_attainment: float
    tbt_attainment: float
    ttft_p50_s: float
    ttft_p99_s: float
    tbt_p50_s: float
    tbt_p99_s: float
    ttft_interval: Interval = UNKNOWN
    tbt_interval: Interval = UNKNOWN


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
    ttft_p50_s: float = 0.0
    tbt_p50_s: float = 0.0
    output_tokens_per_s: float = 0.0
    """Generated tokens."""
    ttft_interval: Interval = UNKNOWN
    """Of the attainment; misses come in clusters, which the interval allows for."""
    tbt_interval: Interval = UNKNOWN
    classes: tuple[ClassLatency, ...] = ()
    """Classes with enough requests to tell, in the order of their index."""
    ttft_mean_s: float = 0.0
    tbt_mean_s: float = 0.0

    def attains(self, fraction: float) -> bool:
        """Whether both attainments reach ``fraction``."""
        return self.attainment >= fraction

    @property
    def attainment(self) -> float:
        """The lower of both attainments."""
        return min(self.ttft_attainment, self.tbt_attainment)

    @property
    def j_per_token(self) -> float:
        """Energy of all GPUs of the replica per generated token; infinite without any."""
        return self.power_w / self.output_tokens_per_s if self.output_tokens_per_s > 0 else float("inf")

    def mixed(self, other: "SurfacePoint", share: float) -> "SurfacePoint":
        """The point at a share of the way to another one; of classes, those that both know."""
        known = {latency.name: latency for latency in other.classes}
        shared = [(latency, known[latency.name]) for latency in self.classes if latency.name in known]
        return replace(
            _between(self, other, share), classes=tuple(_between(here, there, share) for here, there in shared)
        )


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

    def power_w(self, clock_mhz: int, rate_rps: float, replicas: int = 1) -> float:
        """Watts of ``at``, for whoever wants to know nothing else of many points."""
        return sum(weight * _power_w(points[clock_mhz], rate_rps) for points, weight in self._neighbours(replicas))

    def drawing(self, power_factor: float) -> "Surface":
        """The surface of the same replica when a held GPU draws so many times the watts: nothing else changes."""

        def scaled(rows: Mapping[int, Sequence[SurfacePoint]]) -> dict[int, Sequence[SurfacePoint]]:
            return {
                clock_mhz: tuple(replace(point, power_w=power_factor * point.power_w) for point in row)
                for clock_mhz, row in rows.items()
            }

        return replace(
            self,
            loaded_idle_w=power_factor * self.loaded_idle_w,
            points=scaled(self.points),
            shared_points={size: scaled(rows) for size, rows in self.shared_points.items()},
        )

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


_Linear = TypeVar("_Linear", SurfacePoint, ClassLatency)


def _between(here: _Linear, there: _Linear, share: float) -> _Linear:
    """Every number and every interval at a share of the way; the rest is from ``here``."""
    changes: dict[str, Any] = {}
    for each in fields(here):
        a, b = getattr(here, each.name), getattr(there, each.name)
        if isinstance(a, float | int):
            changes[each.name] = a + share * (b - a)
        elif each.name.endswith("_interval"):
            changes[each.name] = (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))
    return replace(here, **changes)


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
        return _overloaded(row[-1], rate_rps)
    upper = row[index]
    if index == 0:
        return upper
    lower = row[index - 1]
    return lower.mixed(upper, (rate_rps - lower.rate_rps) / (upper.rate_rps - lower.rate_rps))


def _power_w(row: Sequence[SurfacePoint], rate_rps: float) -> float:
    index = min(bisect_left(row, rate_rps, key=lambda point: point.rate_rps), len(row) - 1)
    upper = row[index]
    if index == 0 or rate_rps >= upper.rate_rps:
        return upper.power_w
    lower = row[index - 1]
    share = (rate_rps - lower.rate_rps) / (upper.rate_rps - lower.rate_rps)
    return lower.power_w + share * (upper.power_w - lower.power_w)


def _overloaded(last: SurfacePoint, rate_rps: float) -> SurfacePoint:
    """The last point of a row under more load than that; which class is left waiting is not known."""
    served = last.rate_rps / rate_rps
    return replace(
        last,
        ttft_attainment=last.ttft_attainment * served,
        tbt_attainment=last.tbt_attainment * served,
        ttft_interval=(last.ttft_interval[0] * served, last.ttft_interval[1] * served),
        tbt_interval=(last.tbt_interval[0] * served, last.tbt_interval[1] * served),
        classes=(),
    )
