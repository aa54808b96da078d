"""Surfaces as arrays: what one replica does at a clock and a load, looked up in microseconds.

Between grid points everything is linear in the load, in the clock and in the
number of replicas that share the load. A surface ends soon after the loads that
anybody would plan for. A fleet that is driven beyond, as by a policy that reacts
too late, has some more points simulated, up to saturation.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import exp
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.perfmodel.surface import ClassLatency, Surface, SurfacePoint
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.operating_point import SATURATING, UnitLoad, saturation_rps, simulate_point
from dynawatt.simulation.slots.settling import Settled
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.workload.classes import CLASS_NAMES
from dynawatt.workload.mix import LengthMix

Numbers = NDArray[np.float64]

_CLASSES: Final = len(CLASS_NAMES)
_LATENCIES: Final = ("ttft_attainment", "tbt_attainment", "ttft_p50_s", "ttft_p99_s", "tbt_p50_s", "tbt_p99_s")
_POWER, _TTFT_MEAN, _TBT_MEAN, _FIRST = 0, 1, 2, 3
_WIDTH: Final = _FIRST + len(_LATENCIES) * _CLASSES

_BEYOND: Final = 3
"""Points between the end of a surface and saturation."""
_NEARLY: Final = 0.98
"""Of saturation: a surface that reaches so far goes on as it ends."""
_LONG: Final = 0.99
"""A batch is taken to be done when requests of this quantile of the output lengths are."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One replica in a steady state; arrays are by class."""

    power_w: float
    """All its GPUs."""
    ttft_mean_s: float
    tbt_mean_s: float
    ttft_attainment: Numbers
    tbt_attainment: Numbers
    ttft_p50_s: Numbers
    ttft_p99_s: Numbers
    tbt_p50_s: Numbers
    tbt_p99_s: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One clock and one number of replicas, ascending in rate."""

    rates_rps: Numbers
    values: Numbers
    """[point, column]"""

    def extended(self, points: Sequence[SurfacePoint]) -> "_Row":
        """With some more points, beyond the last one."""
        rates_rps = [point.rate_rps for point in points]
        values = np.array([_columns(point) for point in points])
        return _Row(np.append(self.rates_rps, rates_rps), np.vstack([self.values, values]))

    def at(self, rate_rps: float) -> Numbers:
        index = int(np.searchsorted(self.rates_rps, rate_rps))
        if index == 0:
            return np.asarray(self.values[0])
        if index == len(self.rates_rps):
            return np.asarray(self.values[-1])
        below_rps, above_rps = self.rates_rps[index - 1], self.rates_rps[index]
        share = (rate_rps - below_rps) / (above_rps - below_rps)
        return np.asarray((1 - share) * self.values[index - 1] + share * self.values[index])


@dataclass(eq=False)
class SurfaceTable:
    """A shape under the load of a pool's classes."""

    surface: Surface
    question: SurfaceQuestion
    """What the surface answers."""
    _prefills_j: dict[float, float] = field(default_factory=dict)
    _limits_rps: dict[float, float] = field(default_factory=dict)
    _loads: dict[int, UnitLoad] = field(default_factory=dict)
    _rows: dict[tuple[int, int], _Row] = field(default_factory=dict)
    _weights: dict[tuple[float, int], list[tuple[float, int, int]]] = field(default_factory=dict)

    @property
    def shape(self) -> ReplicaShape:
        """Of the replicas."""
        return ReplicaShape(self.question.replica, self.question.settings)

    @property
    def mix(self) -> LengthMix:
        """Of the load."""
        return self.question.mix

    @cached_property
    def mean_prompt_tokens(self) -> float:
        """Of a request."""
        return float(self.mix.input_tokens.mean())

    @cached_property
    def mean_gaps(self) -> float:
        """Of a request."""
        return float(self.mix.output_tokens.mean()) - 1

    @cached_property
    def long_gaps(self) -> float:
        """Of the longest request in a batch, or nearly."""
        return float(np.quantile(self.mix.output_tokens, _LONG)) - 1

    def idle_w(self, clock_mhz: float) -> float:
        """Of a replica without requests, all its GPUs."""
        return self.shape.replica.tensor_parallel * self.shape.replica.loaded_idle_w(clock_mhz)

    def prefill_j(self, clock_mhz: float) -> float:
        """Joules that the mean prompt takes, beside decoding requests, in full iterations."""
        if clock_mhz not in self._prefills_j:
            replica, tokens = self.shape.replica, self.shape.settings.max_num_batched_tokens - 1
            decoding = Batch(1, round(self.mean_prompt_tokens), 0, 0.0)
            both = Batch(1, round(self.mean_prompt_tokens), tokens, chunk_pairs(tokens, 0))
            joules = [
                replica.step_s(batch, clock_mhz) * replica.power_w(batch, clock_mhz) for batch in (both, decoding)
            ]
            part = self.mean_prompt_tokens / max(1, tokens)
            self._prefills_j[clock_mhz] = replica.tensor_parallel * (joules[0] - joules[1]) * part
        return self._prefills_j[clock_mhz]

    def limit_rps(self, clock_mhz: float) -> float:
        """What a replica serves that never runs dry."""
        return sum(weight * self._limit_rps(clock) for clock, weight in _around(self.surface.clocks_mhz, clock_mhz))

    def _limit_rps(self, clock_mhz: float) -> float:
        """Of a clock of the surface."""
        if clock_mhz not in self._limits_rps:
            self._limits_rps[clock_mhz] = saturation_rps(self.shape, self.mix, clock_mhz, SATURATING)
        return self._limits_rps[clock_mhz]

    def at(self, clock_mhz: float, rate_rps: float, replicas: int) -> Operation:
        """Each of so many replicas that share a load; beyond saturation as at saturation."""
        found = np.zeros(_WIDTH)
        for weight, row in self._of(clock_mhz, replicas, rate_rps):
            found += weight * row.at(rate_rps)
        by_class = found[_FIRST:].reshape(len(_LATENCIES), _CLASSES)
        return Operation(float(found[_POWER]), float(found[_TTFT_MEAN]), float(found[_TBT_MEAN]), *by_class)

    def busy_share(self, how: Operation, rate_rps: float) -> float:
        """Part of the time in which a replica has any request, as if they came at random and none waited."""
        return 1 - exp(-rate_rps * (how.ttft_mean_s + self.mean_gaps * how.tbt_mean_s))

    def mean_clock_mhz(self, settled: Settled, rate_rps: float, replicas: int) -> float:
        """The fixed clock that draws as much as a governed replica, which idles and works at different clocks."""
        calm, working = self.at(settled.mhz, rate_rps, replicas), self.at(settled.working_mhz, rate_rps, replicas)
        most_w = working.power_w - calm.power_w
        if most_w <= 0:
            return settled.mhz
        idle = 1 - self.busy_share(working, rate_rps)
        less_w = idle * (self.idle_w(settled.working_mhz) - self.idle_w(settled.mhz))
        return settled.mhz + min(1.0, max(0.0, 1 - less_w / most_w)) * (settled.working_mhz - settled.mhz)

    def unhurried_s(self, clock_mhz: float, replicas: int) -> float:
        """Mean time to first token under hardly any load."""
        rows = self._of(clock_mhz, replicas, 0.0)
        return sum(weight * float(row.values[0, _TTFT_MEAN]) for weight, row in rows)

    def outstanding(self, clock_mhz: float, replicas: int) -> tuple[Numbers, Numbers]:
        """How many requests a replica has at which load: rates in 1/s, and numbers, both ascending.

        By Little's law. The last is that of a replica at saturation.
        """
        _, row = max(self._of(clock_mhz, replicas, self.limit_rps(clock_mhz)), key=lambda pair: pair[0])
        output_tokens = float(self.mix.output_tokens.mean())
        residence_s = row.values[:, _TTFT_MEAN] + (output_tokens - 1) * row.values[:, _TBT_MEAN]
        return row.rates_rps, np.maximum.accumulate(row.rates_rps * residence_s)

    def _of(self, clock_mhz: float, replicas: int, rate_rps: float) -> list[tuple[float, _Row]]:
        """Rows around a clock and a number of replicas that reach up to a rate, with their weights."""
        key = (clock_mhz, replicas)
        if key not in self._weights:
            sizes = sorted({1, *self.surface.shared_points})
            self._weights[key] = [
                (of_clock * of_size, int(clock), int(size))
                for clock, of_clock in _around(self.surface.clocks_mhz, clock_mhz)
                for size, of_size in _around(sizes, replicas)
            ]
        return [(weight, self._row(clock, size, rate_rps)) for weight, clock, size in self._weights[key]]

    def _row(self, clock_mhz: int, size: int, rate_rps: float) -> _Row:
        key = (clock_mhz, size)
        if key not in self._rows:
            points = (self.surface.points if size == 1 else self.surface.shared_points[size])[clock_mhz]
            self._rows[key] = _row_of(points)
        row, limit_rps = self._rows[key], self._limit_rps(clock_mhz)
        end_rps = float(row.rates_rps[-1])
        if rate_rps > end_rps and end_rps < limit_rps * _NEARLY:
            rates_rps = np.linspace(end_rps, limit_rps, _BEYOND + 1)[1:]
            self._rows[key] = row = row.extended([self._simulated(clock_mhz, size, float(rate)) for rate in rates_rps])
        return row

    def _simulated(self, clock_mhz: int, size: int, rate_rps: float) -> SurfacePoint:
        asked = self.question
        return simulate_point(
            self.shape, asked.objectives, self._load(size), rate_rps, replicas=size, clock_mhz=clock_mhz
        )

    def _load(self, size: int) -> UnitLoad:
        if size not in self._loads:
            self._loads[size] = self.question.load(size)
        return self._loads[size]


def _around(grid: Sequence[float], value: float) -> list[tuple[float, float]]:
    """The one or two neighbours of a value and their weights; beyond its ends the grid is taken to go on as it ends."""
    above = bisect_left(grid, value)
    if above == len(grid):
        return [(grid[-1], 1.0)]
    if above == 0 or grid[above] == value:
        return [(grid[above], 1.0)]
    share = (value - grid[above - 1]) / (grid[above] - grid[above - 1])
    return [(grid[above - 1], 1 - share), (grid[above], share)]


def _row_of(points: Sequence[SurfacePoint]) -> _Row:
    values = np.array([_columns(point) for point in points])
    # Of an idle replica no latency is known: it answers as one with hardly any load.
    if len(points) > 1:
        values[0, 1:] = values[1, 1:]
    return _Row(np.array([point.rate_rps for point in points]), values)


def _columns(point: SurfacePoint) -> list[float]:
    """All numbers of a point; classes too rare to be told apart do as those with the same input do, or as all do."""
    known = {latency.name: latency for latency in point.classes}
    columns = [point.power_w, point.ttft_mean_s, point.tbt_mean_s]
    for field_name in _LATENCIES:
        for name in CLASS_NAMES:
            alike: list[ClassLatency | SurfacePoint] = [known[name]] if name in known else []
            alike = alike or [latency for latency in point.classes if latency.name[0] == name[0]] or [point]
            columns.append(sum(getattr(each, field_name) for each in alike) / len(alike))
    return columns
