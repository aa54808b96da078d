"""Statistics of a load, gathered in one pass over its chunks."""

from collections import Counter
from dataclasses import dataclass
from math import nan, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.workload.mix import LengthMix
from dynawatt.workload.trace import Trace

PEAK_WINDOW_S: Final = 300.0
_SAMPLE: Final = 1 << 14


@dataclass(frozen=True, slots=True)
class LoadStatistics:
    """What a load is like."""

    requests: int
    span_s: float
    """Time of the last arrival."""
    peak_rps: float
    """Most requests in any whole five minutes counted from the start, per second; the mean of a shorter load."""
    interarrival_cv: float
    """Of the gaps between requests; nan below three requests."""
    sample: LengthMix
    """Requests drawn at random, at most 16,384."""

    @property
    def mean_rps(self) -> float:
        """Requests per second over the span; 0 without one."""
        return self.requests / self.span_s if self.span_s > 0 else 0.0

    def mix(self, size: int, seed: int) -> LengthMix:
        """``size`` requests drawn from the sample, each once as long as there are enough."""
        known = len(self.sample.input_tokens)
        rows = np.random.default_rng(seed).choice(known, size, replace=size > known)
        return LengthMix(self.sample.input_tokens[rows], self.sample.output_tokens[rows])


class LoadMeter:
    """Add the chunks of a load in order of time, then ask for the result."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._requests = 0
        self._last_s = 0.0
        self._gaps = 0.0
        self._squared_gaps = 0.0
        self._windows: Counter[int] = Counter()
        self._rng = np.random.default_rng(0)
        # The sample is of the requests with the lowest of random priorities.
        self._priorities = np.empty(0)
        self._lengths: NDArray[np.int64] = np.empty((2, 0), dtype=np.int64)

    def add(self, chunk: Trace) -> None:
        """Count a chunk."""
        if not len(chunk):
            return
        before = [self._last_s] if self._requests else []
        gaps = np.diff(np.concatenate([before, chunk.arrival_s]))
        self._gaps += float(gaps.sum())
        self._squared_gaps += float(gaps @ gaps)
        self._requests += len(chunk)
        self._last_s = chunk.span_s
        windows = (chunk.arrival_s / PEAK_WINDOW_S).astype(np.int64)
        starts = np.flatnonzero(np.diff(windows, prepend=-1))
        counts = np.diff(starts, append=len(chunk))
        self._windows.update(dict(zip(windows[starts].tolist(), counts.tolist(), strict=True)))
        self._draw(chunk)

    def _draw(self, chunk: Trace) -> None:
        priorities = self._rng.random(len(chunk))
        worst = self._priorities.max() if len(self._priorities) == _SAMPLE else 1.0
        rows = np.flatnonzero(priorities < worst)
        self._priorities = np.concatenate([self._priorities, priorities[rows]])
        lengths = np.array([chunk.input_tokens[rows], chunk.output_tokens[rows]])
        self._lengths = np.concatenate([self._lengths, lengths], axis=1)
        if len(self._priorities) > _SAMPLE:
            kept = np.argpartition(self._priorities, _SAMPLE)[:_SAMPLE]
            self._priorities, self._lengths = self._priorities[kept], self._lengths[:, kept]

    def result(self) -> LoadStatistics:
        """Statistics of all chunks so far."""
        whole = int(self._last_s / PEAK_WINDOW_S)
        peak = max((count for window, count in self._windows.items() if window < whole), default=0) / PEAK_WINDOW_S
        mean_rps = self._requests / self._last_s if self._last_s > 0 else 0.0
        return LoadStatistics(
            requests=self._requests,
            span_s=self._last_s,
            peak_rps=peak if whole else mean_rps,
            interarrival_cv=self._cv(),
            sample=LengthMix(*self._lengths),
        )

    def _cv(self) -> float:
        gaps = self._requests - 1
        if gaps < 2 or self._gaps <= 0:
            return nan
        mean = self._gaps / gaps
        return sqrt(max(0.0, self._squared_gaps / gaps - mean**2)) / mean


def measure(trace: Trace) -> LoadStatistics:
    """Statistics of a trace in memory."""
    meter = LoadMeter()
    meter.add(trace)
    return meter.result()
