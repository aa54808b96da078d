"""Recorded workloads: a trace, scaled while it is handed out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.workload.measuring import LoadStatistics, measure
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.streaming import CHUNK_S, rechunk, window_end_s
from dynawatt.workload.trace import ScaleMode, Trace

_PIECE_REQUESTS: Final = 1 << 17
_ROUNDING_S: Final = 1e-6


@dataclass(frozen=True, eq=False)
class MeasuredWorkload:
    """What all recorded workloads know of themselves."""

    name: str
    statistics: LoadStatistics

    @property
    def span_s(self) -> float:
        """Time of the last arrival, unscaled."""
        return self.statistics.span_s

    @property
    def mean_rps(self) -> float:
        """Mean rate over the span."""
        return self.statistics.mean_rps

    @property
    def peak_rps(self) -> float:
        """Most requests in any whole five minutes, per second."""
        return self.statistics.peak_rps

    @property
    def interarrival_cv(self) -> float:
        """CV of the gaps between requests."""
        return self.statistics.interarrival_cv

    def mix(self, size: int, seed: int = 0) -> LengthMix:
        """``size`` requests drawn at random."""
        return self.statistics.mix(size, seed)


@dataclass(frozen=True, eq=False)
class RecordedWorkload(MeasuredWorkload):
    """A trace in memory. Scaled, its requests are those of ``Trace.superpose`` or ``Trace.compress``."""

    trace: Trace

    def chunks(
        self,
        *,
        hours: float | None = None,
        seed: int = 0,
        rate_scale: float = 1.0,
        scale_mode: ScaleMode = ScaleMode.SUPERPOSE,
        chunk_s: float = CHUNK_S,
    ) -> Iterator[Trace]:
        """See ``Workload``."""
        end_s = window_end_s(self, hours, rate_scale, scale_mode, chunk_s)
        if scale_mode is ScaleMode.COMPRESS or rate_scale == 1:
            return rechunk(before(_pieces(self.trace, rate_scale), end_s), chunk_s)
        return rechunk(before(_superposed(self.trace, rate_scale, seed, scale_mode.within_s), end_s), chunk_s)


def recorded(name: str, trace: Trace) -> RecordedWorkload:
    """A trace as a workload."""
    return RecordedWorkload(name, measure(trace), trace)


def before(pieces: Iterator[Trace], end_s: float) -> Iterator[Trace]:
    """The requests that arrive by ``end_s``, the last moment included: it is that of a trace's last request."""
    for piece in pieces:
        count = int(np.searchsorted(piece.arrival_s, end_s, side="right"))
        if count:
            yield Trace(piece.arrival_s[:count], piece.input_tokens[:count], piece.output_tokens[:count])
        if count < len(piece):
            return


def _pieces(trace: Trace, faster: float) -> Iterator[Trace]:
    for at in range(0, len(trace), _PIECE_REQUESTS):
        part = slice(at, at + _PIECE_REQUESTS)
        yield Trace(trace.arrival_s[part] / faster, trace.input_tokens[part], trace.output_tokens[part])


def _superposed(trace: Trace, factor: float, seed: int, within_s: float | None) -> Iterator[Trace]:
    """The requests of ``trace.superpose(factor, seed, within_s)``, without ever holding all of them."""
    copies = [_ShiftedCopy(trace, shift, rows) for shift, rows in trace.copies(factor, seed, within_s)]
    pieces = int(np.ceil(len(trace) * factor / _PIECE_REQUESTS))
    for number in range(1, pieces + 1):
        end_s = trace.span_s * number / pieces if number < pieces else np.inf
        taken = [copy.take(end_s) for copy in copies]
        times = np.concatenate([times for times, _ in taken])
        rows = np.concatenate([rows for _, rows in taken])
        order = np.argsort(times, kind="stable")
        if len(order):
            yield Trace(times[order], trace.input_tokens[rows[order]], trace.output_tokens[rows[order]])


class _ShiftedCopy:
    """One copy, shifted around the span of its trace: first what wraps around to the beginning, then the rest."""

    def __init__(self, trace: Trace, shift_s: float, rows: NDArray[np.int64] | None) -> None:
        self._rows = None if rows is None else np.sort(rows)
        self._arrival_s = trace.arrival_s if self._rows is None else trace.arrival_s[self._rows]
        self._shift_s, self._span_s = shift_s, trace.span_s
        self._count = len(self._arrival_s)
        wraps = int(np.searchsorted(self._arrival_s + shift_s, self._span_s)) if shift_s else self._count
        self._segments = [(wraps, self._count, True), (0, wraps, False)]

    def take(self, end_s: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Times and rows of the requests before ``end_s`` that were not taken yet."""
        times: list[NDArray[np.float64]] = []
        rows: list[NDArray[np.int64]] = []
        for number, (first, last, wrapped) in enumerate(self._segments):
            offset_s = self._shift_s - self._span_s if wrapped else self._shift_s
            # Found roughly in the times of the trace, then exactly in the shifted ones.
            roughly = first + int(np.searchsorted(self._arrival_s[first:last], end_s - offset_s + _ROUNDING_S))
            shifted = self._arrival_s[first:roughly] + self._shift_s
            if wrapped:
                shifted -= self._span_s
            count = int(np.searchsorted(shifted, end_s))
            taken = np.arange(first, first + count)
            self._segments[number] = (first + count, last, wrapped)
            times.append(shifted[:count])
            rows.append(taken if self._rows is None else self._rows[taken])
        return np.concatenate(times), np.concatenate(rows)
