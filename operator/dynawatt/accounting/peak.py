"""The highest load of the last week, by slots of five minutes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

from dynawatt.forecast.high_water import HighWater
from dynawatt.forecast.slots import SLOT_S, WEEK_SLOTS, Calendar


@dataclass(slots=True)
class WeekPeak:
    """Means over slots, so that a burst of seconds, which any fleet lets wait, is no peak."""

    peak_rps: float = 0.0
    """Of the whole slots of a week; before the first one ended, the highest rate seen."""
    _calendar: Calendar = field(default_factory=Calendar)
    _highest: HighWater = field(default_factory=lambda: HighWater(WEEK_SLOTS * SLOT_S))
    _slot: int | None = None
    _sum_rps: float = 0.0
    _count: int = 0
    _closed: bool = False

    def learn(self, start_s: float, requests: Sequence[float]) -> None:
        """Take counts by slots of five minutes, oldest first, NaN where nothing is known; before anything observed."""
        for index, count in enumerate(requests):
            if isfinite(count):
                self._close(start_s + index * SLOT_S, float(count) / SLOT_S)

    def observe(self, now_s: float, rate_rps: float) -> None:
        """Take the load as it is now; times must not fall, or what comes earlier counts as now."""
        slot = self._calendar.slot(now_s)
        if self._slot is not None and slot > self._slot:
            self._close(self._calendar.start_s(self._slot), self._sum_rps / self._count)
            self._sum_rps, self._count = 0.0, 0
        self._slot = max(slot, self._slot) if self._slot is not None else slot
        self._sum_rps += rate_rps
        self._count += 1
        if not self._closed:
            self.peak_rps = max(self.peak_rps, rate_rps)

    def _close(self, start_s: float, rate_rps: float) -> None:
        self.peak_rps = self._highest.add(start_s, rate_rps)
        self._closed = True
