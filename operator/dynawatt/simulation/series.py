"""A run over time: one point per interval, small enough to plot a week."""

from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaState
from dynawatt.simulation.tally import Tally

Numbers = NDArray[np.float64]

_STATES: Final = (ReplicaState.SERVING, ReplicaState.STARTING, ReplicaState.DRAINING)
_INPUT_CLASSES: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Arrays over n intervals; nan where an interval has nothing to tell."""

    start_s: Numbers
    """Of each interval; it ends where the next begins, and the last one at ``end_s``."""
    end_s: float
    requests_per_s: Numbers
    output_tokens_per_s: Numbers
    power_w: Numbers
    """Mean, of the GPUs that replicas hold."""
    held_gpus: Numbers
    """Mean number of them."""
    ttft_p50_s: Numbers
    """[input class, n]: short, medium, long."""
    ttft_high_s: Numbers
    """The SLO's percentile, [input class, n]."""
    tbt_p50_s: Numbers
    tbt_high_s: Numbers
    ttft_attainment: Numbers
    tbt_attainment: Numbers
    replicas: Numbers
    """At the end of each interval, [shape, state, n]: serving, starting, draining."""
    clock_mhz: Numbers
    """Commanded, mean over a shape's replicas and the interval, [shape, n]."""


class Recorded(Protocol):
    """A fleet whose totals can be asked for."""

    @property
    def now_s(self) -> float:
        """Virtual time."""
        ...

    def tally(self) -> Tally:
        """Totals since the start."""
        ...

    def snapshot(self) -> FleetSnapshot:
        """All replicas as they are now."""
        ...

    def clock_time(self) -> tuple[Numbers, Numbers]:
        """By shape, since the start: MHz times seconds, and seconds, summed over replicas."""
        ...


class SeriesRecorder:
    """Turns totals at the ends of intervals into a series.

    Latencies are those of the tokens that came within the interval.
    """

    def __init__(self, fleet: Recorded, shapes: int, percentile: float) -> None:
        """The first interval begins now."""
        self._fleet = fleet
        self._shapes = shapes
        self._fraction = percentile / 100
        self._times_s = [fleet.now_s]
        self._before = fleet.tally()
        self._clocks_before = fleet.clock_time()
        self._rows: list[tuple[object, ...]] = []

    def record(self) -> None:
        """End an interval; the next one begins. One without length is passed over."""
        width_s = self._fleet.now_s - self._times_s[-1]
        if width_s <= 0:
            return
        total = self._fleet.tally()
        new = total - self._before
        clocks = self._fleet.clock_time()
        clock_mhz_s, replica_s = (after - before for after, before in zip(clocks, self._clocks_before, strict=True))
        # Classes are numbered by input, then by output: three in a row share their input.
        by_input = new.ttft_histogram.reshape(_INPUT_CLASSES, -1, new.ttft_histogram.shape[1]).sum(axis=1)
        first_tokens = replace(new, ttft_histogram=by_input)
        self._rows.append(
            (
                new.requests.sum() / width_s,
                new.output_tokens / width_s,
                new.energy_j.sum() / width_s,
                new.gpu_s / width_s,
                [first_tokens.ttft_quantile_s(0.5, row) for row in range(_INPUT_CLASSES)],
                [first_tokens.ttft_quantile_s(self._fraction, row) for row in range(_INPUT_CLASSES)],
                new.tbt_quantile_s(0.5),
                new.tbt_quantile_s(self._fraction),
                new.ttft_attainment(),
                new.tbt_attainment(),
                _replicas_by_shape(self._fleet.snapshot(), self._shapes),
                np.divide(clock_mhz_s, replica_s, out=np.full(self._shapes, np.nan), where=replica_s > 0),
            )
        )
        self._times_s.append(self._fleet.now_s)
        self._before, self._clocks_before = total, clocks

    def series(self) -> Series:
        """All intervals so far."""
        columns = [np.moveaxis(np.array(column, dtype=np.float64), 0, -1) for column in zip(*self._rows, strict=True)]
        return Series(np.array(self._times_s[:-1]), self._times_s[-1], *columns)


def _replicas_by_shape(fleet: FleetSnapshot, shapes: int) -> Numbers:
    """How many there are, [shape, state]."""
    return np.array(
        [
            [np.count_nonzero((fleet.shape == shape) & (fleet.state == state)) for state in _STATES]
            for shape in range(shapes)
        ]
    )
