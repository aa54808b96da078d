"""What a simulated fleet did, in sums: requests, latencies against objectives, joules by cause.

Latencies are kept twice. How many met their objective is counted exactly. Their
distribution is a histogram with bins 1 % wide, so that a week of traffic takes
as much memory as a minute, and quantiles are good to half a percent.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Sums = NDArray[np.float64]

HISTOGRAM_START_S: Final = 1e-4
HISTOGRAM_STEP: Final = 1.01
HISTOGRAM_EDGES_S: Final[Sums] = HISTOGRAM_START_S * HISTOGRAM_STEP ** np.arange(2084, dtype=np.float64)
"""0.1 ms to 1e5 s. Bin i holds edges[i] <= latency < edges[i + 1]; what lies outside is in the first or last bin."""
HISTOGRAM_BINS: Final = len(HISTOGRAM_EDGES_S) - 1


class Cause(IntEnum):
    """What energy was spent on; the position in ``Tally.energy_j``."""

    PREFILL = 0
    DECODE = 1
    IDLE = 2
    STARTUP = 3


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Sums since the start of a simulation; the difference of two covers the time between them.

    Arrays by class have the order of ``CLASS_NAMES``; a request's class goes by its actual lengths.
    """

    requests: Counts
    """Requests that arrived, by class."""
    finished: Counts
    ttft_met: Counts
    """Requests whose first token came within its objective."""
    gaps: Counts
    """Gaps between two tokens of a request."""
    gaps_met: Counts
    ttft_histogram: Counts
    """[class, bin]"""
    gap_histogram: Counts
    """[class, bin]"""
    ttft_sum_s: Sums
    gap_sum_s: Sums
    energy_j: Sums
    """By Cause; all GPUs of all replicas that hold GPUs. Of iterations under way, the part that has passed."""
    gpu_s: float
    """GPU-seconds held: starting, serving, draining."""
    busy_gpu_s: float
    """Those of them in which iterations ran."""
    input_tokens: int
    """Prompt tokens of requests that got their first token."""
    preemptions: int
    rejected: int
    """Requests too long for the KV cache of every replica that could have taken them."""
    iterations: int

    @property
    def output_tokens(self) -> int:
        """Tokens generated: a first one per request, then one per gap."""
        return int(self.ttft_histogram.sum() + self.gaps.sum())

    def ttft_attainment(self, length_class: int | None = None) -> float:
        """Share of the requests that arrived whose first token came in time; 1 without any.

        One that got no first token yet has not met its objective. In a difference of tallies a first token counts when
        it comes and its request when it arrives.
        """
        arrived, met = _pick(self.requests, length_class), _pick(self.ttft_met, length_class)
        return min(1.0, float(met / arrived)) if arrived else 1.0

    def tbt_attainment(self, length_class: int | None = None) -> float:
        """Share of the gaps within the objective; 1 without any."""
        gaps, met = _pick(self.gaps, length_class), _pick(self.gaps_met, length_class)
        return float(met / gaps) if gaps else 1.0

    def ttft_quantile_s(self, quantile: float, length_class: int | None = None) -> float:
        """Quantile of the times to first token; nan without any."""
        return _quantile(_pick_rows(self.ttft_histogram, length_class), quantile)

    def tbt_quantile_s(self, quantile: float, length_class: int | None = None) -> float:
        """Quantile of the gaps between tokens; nan without any."""
        return _quantile(_pick_rows(self.gap_histogram, length_class), quantile)

    def __sub__(self, earlier: "Tally") -> "Tally":
        """What happened since an earlier tally of the same simulation."""
        return Tally(*(getattr(self, field.name) - getattr(earlier, field.name) for field in fields(self)))


def _pick(counts: Counts, length_class: int | None) -> int:
    return int(counts.sum() if length_class is None else counts[length_class])


def _pick_rows(histogram: Counts, length_class: int | None) -> Counts:
    return np.asarray(histogram.sum(axis=0) if length_class is None else histogram[length_class])


def _quantile(counts: Counts, quantile: float) -> float:
    """Value below which that share of the counts lies, spread evenly in the logarithm over the bin it falls into."""
    cumulative = np.cumsum(counts)
    if not cumulative[-1]:
        return float("nan")
    rank = quantile * cumulative[-1]
    found = int(np.searchsorted(cumulative, rank, side="left"))
    found = max(found, int(np.flatnonzero(counts)[0]))
    inside = (rank - (cumulative[found] - counts[found])) / counts[found]
    return float(HISTOGRAM_EDGES_S[found] * HISTOGRAM_STEP**inside)
