"""Demand ahead from the last minutes alone: the recent peak, and the trend while it rises.

Needs no history, so it is right for a service nobody has seen before; the price
is that it learns about a daily ramp only once it has begun.
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf, sqrt


@dataclass(slots=True)
class RecentPeakForecast:
    """Upper demand of the next minutes from observed request rates."""

    window_s: float = 120.0
    """How long a peak is remembered."""
    trend_window_s: float = 30.0
    """Over how long the trend is taken."""
    sigmas: float = 1.0
    """Poisson standard deviations kept above the observed rate."""
    _samples: deque[tuple[float, float]] = field(default_factory=deque)
    _since_s: float = 0.0

    @property
    def observed_s(self) -> float:
        """How long there have been observations without a gap as long as the memory."""
        return self._samples[-1][0] - self._since_s if self._samples else 0.0

    def observe(self, now_s: float, rate_rps: float) -> None:
        """Add the rate seen now. NaN, infinite and negative rates are refused with ValueError."""
        if not 0 <= rate_rps < inf:
            raise ValueError(f"rate_rps is {rate_rps}: must be a number >= 0")
        while self._samples and self._samples[0][0] < now_s - max(self.window_s, self.trend_window_s):
            self._samples.popleft()
        if not self._samples:
            self._since_s = now_s
        self._samples.append((now_s, rate_rps))

    def demand_rps(self, lead_s: float, rate_window_s: float, memory_s: float | None = None) -> float | None:
        """Rate to be ready for within ``lead_s`` seconds; None before the first observation.

        ``rate_window_s`` is the window each observed rate was averaged over; it sets the sampling error. Peaks older
        than ``memory_s`` are forgotten; by default all of the window is remembered.
        """
        if not self._samples:
            return None
        oldest_s = self._samples[-1][0] - (self.window_s if memory_s is None else memory_s)
        peak_rps = max(rate for time_s, rate in self._samples if time_s >= oldest_s)
        # A rate over a window describes its middle, so the trend has that half window to make up as well.
        ahead_rps = self._samples[-1][1] + max(0.0, self._rise(rate_window_s)) * (lead_s + rate_window_s / 2)
        expected_rps = max(peak_rps, ahead_rps)
        return expected_rps + self.sigmas * sqrt(expected_rps / rate_window_s)

    def _rise(self, rate_window_s: float) -> float:
        """Slope of the recent samples less its Poisson standard error, in requests per second per second.

        Least squares over a span T of arrivals at rate r leaves a variance of 12 r / T^3: a rise smaller than its
        square root is noise, and following it would start replicas for nothing.
        """
        newest_s = self._samples[-1][0]
        recent = [(t, rate) for t, rate in self._samples if t >= newest_s - self.trend_window_s]
        if len(recent) < 3:
            return 0.0
        mean_t = sum(t for t, _ in recent) / len(recent)
        mean_rate = sum(rate for _, rate in recent) / len(recent)
        spread = sum((t - mean_t) ** 2 for t, _ in recent)
        if spread <= 0:
            return 0.0
        slope = sum((t - mean_t) * (rate - mean_rate) for t, rate in recent) / spread
        span_s = newest_s - recent[0][0] + rate_window_s
        return slope - sqrt(12 * mean_rate / span_s**3)


@dataclass(slots=True)
class HighWater:
    """The highest value of the last ``window_s`` seconds."""

    window_s: float
    _falling: deque[tuple[float, float]] = field(default_factory=deque)
    """Values that nothing later has exceeded."""

    def add(self, now_s: float, value: float) -> float:
        """Take a value and return the highest one that is remembered."""
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((now_s, value))
        while self._falling[0][0] < now_s - self.window_s:
            self._falling.popleft()
        return self._falling[0][1]
