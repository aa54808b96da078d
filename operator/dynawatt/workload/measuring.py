"""Statistics of a load, gathered in one pass over its chunks."""

from collections import Counter
from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.workload.arrivals import MAX_CV, renewal_cv
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.trace import Trace

PEAK_WINDOW_S: Final = 300.0
_SECOND_S: Final = 1.0
"""Window of the counts that bursts show in: time to first token is about as long, and a governor's step is."""
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
    count_dispersion: float
    """Variance over mean of the requests per second within five minutes; nan without five whole minutes."""
    sample: LengthMix
    """Requests drawn at random, at most 16,384."""

    @property
    def mean_rps(self) -> float:
        """Requests per second over the span; 0 without one."""
        return self.requests / self.span_s if self.span_s > 0 else 0.0

    @property
    def burstiness(self) -> float:
        """CV of the gaps of the renewal process that is as bursty, which surfaces are simulated with.

        The gaps' own CV, or that which gives the counts of seconds their dispersion, whichever is less: both are raised
        by slow changes of the rate as well, which are not bursts. Gaps are where the load pauses for minutes, as the
        Azure code trace of 2023 does with copies of it on top of each other (CV 24, by its counts 5.4); counts are
        where it rises and falls (conversations: CV 1.07, by the counts 1.5). 1 where neither is known.
        """
        gaps = 1.0 if isnan(self.interarrival_cv) else min(self.interarrival_cv, MAX_CV)
        if isnan(self.count_dispersion):
            return gaps
        return min(gaps, renewal_cv(self.count_dispersion, self.mean_rps * _SECOND_S))

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
        # By window, of the counts of its seconds.
        self._squares: Counter[int] = Counter()
        self._second, self._in_second = -1, 0
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
        self._count(chunk)
        self._draw(chunk)

    def _count(self, chunk: Trace) -> None:
        """By seconds, and these by windows."""
        every = (chunk.arrival_s / _SECOND_S).astype(np.int64)
        starts = _starts(every)
        seconds, counts = every[starts], np.diff(starts, append=len(every))
        squares = counts**2
        # A second may go on in the next chunk: (a + b)^2 = a^2 + b^2 + 2 a b.
        begun = self._in_second if seconds[0] == self._second else 0
        squares[0] += 2 * begun * counts[0]
        self._second = int(seconds[-1])
        self._in_second = int(counts[-1]) + (begun if len(seconds) == 1 else 0)
        windows = (seconds * _SECOND_S / PEAK_WINDOW_S).astype(np.int64)
        starts = _starts(windows)
        for sums, values in ((self._windows, counts), (self._squares, squares)):
            sums.update(dict(zip(windows[starts].tolist(), np.add.reduceat(values, starts).tolist(), strict=True)))

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
            count_dispersion=self._dispersion(whole),
            sample=LengthMix(*self._lengths),
        )

    def _cv(self) -> float:
        gaps = self._requests - 1
        if gaps < 2 or self._gaps <= 0:
            return nan
        mean = self._gaps / gaps
        return sqrt(max(0.0, self._squared_gaps / gaps - mean**2)) / mean

    def _dispersion(self, whole: int) -> float:
        """Of the seconds around the means of their windows, in so many whole windows from the start."""
        # A trace in nanoseconds, which is refused later, has far more windows than requests.
        busy = [window for window in self._windows if window < whole]
        if not busy:
            return nan
        seconds = PEAK_WINDOW_S / _SECOND_S
        around = sum(self._squares[window] - self._windows[window] ** 2 / seconds for window in busy)
        requests = sum(self._windows[window] for window in busy)
        return around / (seconds - 1) * seconds / requests


def _starts(ascending: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each value, 0 or more, comes first."""
    return np.flatnonzero(np.diff(ascending, prepend=-1))


def measure(trace: Trace) -> LoadStatistics:
    """Statistics of a trace in memory."""
    meter = LoadMeter()
    meter.add(trace)
    return meter.result()
