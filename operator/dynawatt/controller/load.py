"""What a service's load was and will be: counts of its requests, and a forecast made of them.

The forecast learns from what Prometheus has kept of the last weeks and from what
this process counts. Without the former it begins anew at each start, which only
makes it more careful.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.forecast.high_water import HighWater
from dynawatt.forecast.rate import RateForecast
from dynawatt.planning.demand import DemandForecast, demand_ahead

_FEWEST_SLOTS: Final = 12
"""An hour; what is learnt from less is known as soon without."""


def forecast_of(start_s: float, requests: NDArray[np.float64]) -> RateForecast | None:
    """Learnt from counts by slots of five minutes, NaN where nothing is known; None when they are too few to.

    Of weeks this takes seconds.
    """
    if int(np.isfinite(requests).sum()) < _FEWEST_SLOTS:
        return None
    forecast = RateForecast()
    forecast.learn(start_s, requests)
    return forecast


@dataclass(slots=True)
class ServiceLoad:
    """Counts and forecasts the requests of one service."""

    window_s: float
    """Each rate is a mean over so long."""
    remember_s: float
    """What this time brought must be carried, whatever the forecast says."""
    time_lapse: float = 1.0
    """So many times faster than in reality does the load change: for demonstrations."""
    present_rps: float = 0.0
    """Mean over the last window."""
    _forecast: RateForecast = field(default_factory=RateForecast)
    _highest: HighWater = field(init=False)
    _highest_rps: float = 0.0
    _first_s: float | None = None
    _last_s: float = float("-inf")
    _since_s: float = float("inf")
    _counted: list[tuple[float, float, float]] | None = field(default_factory=list)
    """What the forecast was told while a history may still come; None from then on."""

    def __post_init__(self) -> None:
        """The peak is remembered for as long as was asked for."""
        self._highest = HighWater(self.remember_s)
        if self.time_lapse != 1.0:
            self._counted = None

    @property
    def may_learn(self) -> bool:
        """Whether a history could still be learnt: it comes before the first observation, and has its real pace."""
        return self._first_s is None and self.time_lapse == 1.0

    def go_on_with(self, learnt: RateForecast | None, until_s: float) -> None:
        """Take a forecast that learnt a history up to a time, and tell it what was counted since; None: there is none.

        Until then the load is forecast from what was counted alone.
        """
        if learnt is not None and self._counted is not None:
            for start_s, requests, width_s in self._counted:
                if start_s >= until_s:  # to a forecast, a few counts from before look like a clock that was set back
                    learnt.observe(start_s, requests, width_s)
            self._forecast = learnt
        self._counted = None

    def recall(self, start_s: float, requests: NDArray[np.float64], slot_s: float) -> None:
        """Count what came before the first observation, by slots of which NaN are not known.

        As if it had been observed at the end of each slot, since when it is known without a gap: a load is then watched
        for as long, and its peak remembered. The oldest of these slots may be known in part, and is left out.
        """
        gaps = np.flatnonzero(~np.isfinite(requests))
        first = int(gaps[-1]) + 2 if len(gaps) else 1
        for index in range(first, len(requests)):
            self.observe(start_s + (index + 1) * slot_s, float(requests[index]) / slot_s)

    def observe(self, now_s: float, rate_rps: float) -> None:
        """Count the requests since the last call, at most those of one window. Raises ValueError for what is no rate.

        A clock that was set back starts the time anew for which the load was watched.
        """
        if self._first_s is None:
            self._first_s = now_s
        width_s = min(now_s - self._last_s, self.window_s)
        if now_s < self._last_s or now_s - self._last_s > max(self.window_s, self.remember_s):
            width_s, self._since_s, self._highest = self.window_s, now_s, HighWater(self.remember_s)
        if width_s <= 0:
            return
        told = (self._told(now_s - width_s), rate_rps * width_s, width_s * self.time_lapse)
        self._forecast.observe(*told)
        if self._counted is not None:
            self._counted.append(told)
        self._last_s, self.present_rps = now_s, rate_rps
        self._highest_rps = self._highest.add(now_s, rate_rps)

    def watched_s(self) -> float:
        """How long there have been observations without a long gap."""
        return max(0.0, self._last_s - self._since_s)

    def demand(self, now_s: float, most_rps: float) -> DemandForecast | None:
        """From now on; None before the first observation.

        Args:
            now_s: Unix time.
            most_rps: What the service can carry at all. To be ready for more would change nothing, so that a high
                quantile alone, wide as it is while little was seen, never makes an SLO look out of reach: only what
                is expected, or was seen lately, does.
        """
        found = demand_ahead(self._forecast, self._told(now_s))
        if found is None:
            return None
        expected_rps, high_rps = found.expected_rps * self.time_lapse, found.high_rps * self.time_lapse
        high_rps = np.maximum(np.minimum(high_rps, most_rps), expected_rps)
        # A forecast of a load that falls may be ready for less than what the last minutes brought.
        high_rps[0] = max(high_rps[0], self._highest_rps)
        return DemandForecast(expected_rps, high_rps, found.slot_s / self.time_lapse)

    def _told(self, time_s: float) -> float:
        """The time as the forecast knows it: as it is, but in a time lapse it goes faster from the start on."""
        first_s = self._first_s or 0.0
        return first_s + (time_s - first_s) * self.time_lapse
