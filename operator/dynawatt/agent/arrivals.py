"""How bursty a pod's requests arrive, from counters that are read about once a second.

vLLM does not count arrivals. What arrived between two readings is what finished
meanwhile and what more is in the queue or running. The index of dispersion is the
variance over the mean of such counts: 1 for a Poisson process, the size of the
batch for requests that come in batches. Readings do not come on the second, so
each count is compared with what the mean rate gives for its own width (Pearson's
statistic), which for widths of 1 s is the variance over the mean.
"""

from collections import deque
from typing import Final, NamedTuple

from dynawatt.governing.reading import PodReading

_WINDOW_S: Final = 300.0
_SHORTEST_BIN_S: Final = 0.5
"""Readings that follow faster, after a cycle that was late, share a bin."""
_LONGEST_BIN_S: Final = 3.0
"""After a longer silence nothing is known of the seconds within: burstiness depends on the width of the bins."""
_FEWEST_BINS: Final = 60
_FEWEST_ARRIVALS: Final = 30
"""Below, the index of a Poisson process strays from 1 by more than a fifth."""


class _Bin(NamedTuple):
    end_s: float
    width_s: float
    arrivals: float


class _Seen(NamedTuple):
    """A reading as far as it matters here."""

    at_s: float
    finished: float
    requests: float
    """All that ever arrived, apart from an unknown constant."""


class ArrivalMeter:
    """The arrivals of one pod in a sliding window. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._bins: deque[_Bin] = deque()
        self._start: _Seen | None = None
        """Of the bin that is open."""
        self._owed = 0.0

    def observe(self, reading: PodReading, now_s: float) -> None:
        """Take one reading; one that does not tell all three numbers is left out, and its bin goes on."""
        seen = _seen(reading, now_s)
        if seen is None:
            return
        start = self._start
        if start is None or seen.finished < start.finished or seen.at_s - start.at_s > _LONGEST_BIN_S:
            self._start, self._owed = seen, 0.0  # the server restarted, or was silent
            return
        width_s = seen.at_s - start.at_s
        if width_s < _SHORTEST_BIN_S:
            return
        arrived = seen.requests - start.requests
        self._bins.append(_Bin(now_s, width_s, max(0.0, arrived + self._owed)))
        # The three numbers may be a moment apart, which the next bin makes up for. What it does not make up for were
        # requests that vanished without having finished.
        self._owed = min(0.0, arrived)
        self._start = seen

    def dispersion(self, now_s: float) -> float | None:
        """Variance over mean of arrivals per second in the last five minutes; None when too few came."""
        while self._bins and self._bins[0].end_s <= now_s - _WINDOW_S:
            self._bins.popleft()
        arrivals = sum(bin_.arrivals for bin_ in self._bins)
        if len(self._bins) < _FEWEST_BINS or arrivals < _FEWEST_ARRIVALS:
            return None
        rate_rps = arrivals / sum(bin_.width_s for bin_ in self._bins)
        # The sum of (count - expected)^2 / expected, where the expected counts add up to the arrivals.
        squares = sum(bin_.arrivals**2 / bin_.width_s for bin_ in self._bins)
        return max(0.0, squares / rate_rps - arrivals) / (len(self._bins) - 1)


def _seen(reading: PodReading, now_s: float) -> _Seen | None:
    finished, running, waiting = reading.finished, reading.running, reading.waiting
    if finished is None or running is None or waiting is None:
        return None
    requests = finished + running + waiting
    if not (finished >= 0 and running >= 0 and waiting >= 0 and requests < 2.0**53):  # false for NaN, too
        return None
    return _Seen(now_s, finished, requests)
