"""Sums of a run on surfaces, as the iteration simulator keeps them."""

from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, log
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from dynawatt.simulation.slots.tables import Operation
from dynawatt.simulation.tally import HISTOGRAM_BINS, HISTOGRAM_START_S, HISTOGRAM_STEP, Cause, Counts, Tally
from dynawatt.workload.classes import CLASS_NAMES

Numbers = NDArray[np.float64]

_CLASSES: Final = len(CLASS_NAMES)
_Z99: Final = 2.3263
"""Standard deviations from the median to the 99th percentile of a normal distribution."""
_SPREAD_STEP: Final = 1.1
"""Spreads of latencies are rounded to steps of this ratio."""
_LEAST_SPREAD: Final = 0.005


@dataclass(slots=True, eq=False)
class Books:
    """Requests, latencies and joules so far; counts are fractional until they are shown."""

    requests: Numbers = field(default_factory=lambda: np.zeros(_CLASSES))
    finished: Numbers = field(default_factory=lambda: np.zeros(_CLASSES))
    ttft_met: Numbers = field(default_factory=lambda: np.zeros(_CLASSES))
    gaps: Numbers = field(default_factory=lambda: np.zeros(_CLASSES))
    gaps_met: Numbers = field(default_factory=lambda: np.zeros(_CLASSES))
    ttft_histogram: Numbers = field(default_factory=lambda: np.zeros((_CLASSES, HISTOGRAM_BINS)))
    gap_histogram: Numbers = field(default_factory=lambda: np.zeros((_CLASSES, HISTOGRAM_BINS)))
    ttft_sum_s: Numbers = field(default_factory=lambda: np.zeros(_CLASSES))
    gap_sum_s: Numbers = field(default_factory=lambda: np.zeros(_CLASSES))
    energy_j: Numbers = field(default_factory=lambda: np.zeros(len(Cause)))
    gpu_s: float = 0.0
    busy_gpu_s: float = 0.0
    input_tokens: float = 0.0

    def serve(self, served: Numbers, late: Numbers, gaps: Numbers, delay_s: float, how: Operation) -> None:
        """Requests get all their tokens.

        Args:
            served: How many, by class.
            late: Those of them that had to wait for capacity, by class; none of these is in time.
            gaps: Gaps of all of them, by class.
            delay_s: For how long the late ones waited.
            how: What the replicas did that served them.

        Latencies of a class are taken to be log-normal, through the median and the 99th percentile of the surface.
        """
        prompt = served - late
        self.finished += served
        self.ttft_met += prompt * how.ttft_attainment
        self.gaps += gaps
        self.gaps_met += gaps * how.tbt_attainment
        self.ttft_sum_s += served * how.ttft_mean_s + late * delay_s
        self.gap_sum_s += gaps * how.tbt_mean_s
        _spread(self.ttft_histogram, prompt, how.ttft_p50_s, how.ttft_p99_s)
        _spread(self.gap_histogram, gaps, how.tbt_p50_s, how.tbt_p99_s)
        if late.any():
            _spread(self.ttft_histogram, late, delay_s + how.ttft_p50_s, delay_s + how.ttft_p99_s)

    def tally(self) -> Tally:
        """The sums as counts: whole numbers but for the histograms."""
        return Tally(
            requests=_whole(self.requests),
            finished=_whole(self.finished),
            ttft_met=_whole(self.ttft_met),
            gaps=_whole(self.gaps),
            gaps_met=_whole(self.gaps_met),
            ttft_histogram=cast(Counts, self.ttft_histogram.copy()),
            gap_histogram=cast(Counts, self.gap_histogram.copy()),
            ttft_sum_s=self.ttft_sum_s.copy(),
            gap_sum_s=self.gap_sum_s.copy(),
            energy_j=self.energy_j.copy(),
            gpu_s=self.gpu_s,
            busy_gpu_s=self.busy_gpu_s,
            input_tokens=round(self.input_tokens),
            preemptions=0,
            rejected=0,
            iterations=0,
        )


def _whole(numbers: Numbers) -> Counts:
    return np.rint(numbers).astype(np.int64)


def _spread(histogram: Numbers, counts: Numbers, p50_s: Numbers, p99_s: Numbers) -> None:
    """Spread counts over the bins of log-normal distributions; all by class."""
    p50_s = np.maximum(p50_s, HISTOGRAM_START_S)
    middles = (np.log(p50_s / HISTOGRAM_START_S) / log(HISTOGRAM_STEP)).astype(np.int64)
    spreads = np.log(np.maximum(p99_s, p50_s) / p50_s) / (_Z99 * _LEAST_SPREAD)
    steps = np.rint(np.log(np.maximum(spreads, 1.0)) / log(_SPREAD_STEP)).astype(np.int64)
    rows = zip(histogram, counts.tolist(), middles.tolist(), steps.tolist(), strict=True)
    for bins, count, middle, step in rows:
        if count > 0:
            _add(bins, count, middle, step)


def _add(bins: Numbers, count: float, middle: int, step: int) -> None:
    reach, parts = _parts(step)
    first, last = middle - reach, middle + reach + 1
    if first >= 0 and last <= HISTOGRAM_BINS:
        bins[first:last] += count * parts
        return
    # What lies outside of the bins is in the first or the last one.
    below, above = max(0, -first), len(parts) - max(0, last - HISTOGRAM_BINS)
    bins[max(0, first) : first + above] += count * parts[below:above]
    bins[0] += count * parts[:below].sum()
    bins[-1] += count * parts[above:].sum()


@lru_cache(maxsize=256)
def _parts(step: int) -> tuple[int, Numbers]:
    """How far a spread reaches to both sides of the median, in bins, and the parts of these bins, which sum to 1."""
    spread_bins = _LEAST_SPREAD * _SPREAD_STEP**step / log(HISTOGRAM_STEP)
    reach = min(HISTOGRAM_BINS, ceil(4 * spread_bins))
    edges = np.arange(-reach, reach + 2) - 0.5
    parts = np.diff(ndtr(edges / spread_bins))
    return reach, np.asarray(parts / parts.sum())
