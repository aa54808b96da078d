"""DynamoLLM's load predictor: last week's load at the same time, at today's level.

The paper (HPCA 2025) has a template from historical weekly patterns. This one is the
very counts of the week before, by class, scaled by how the last half hour compares
with them. Without a week before, the busiest minutes just seen are expected to last.
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.forecast.slots import SLOT_S, WEEK_SLOTS
from dynawatt.simulation.policies.pools import Numbers
from dynawatt.simulation.study import History

_SEEN_S: Final = 1800.0
"""What the present level is told from."""
_FEWEST: Final = 100.0
"""Expected requests below which the level says nothing."""


@dataclass(slots=True, eq=False)
class ClassForecast:
    """Requests per second by class; learns from the totals at every look."""

    history: History | None
    known_rps: Numbers
    """By class: what to expect where there is no history and nothing was seen."""
    _seen: deque[tuple[float, NDArray[np.int64]]] = field(default_factory=deque)
    """Times, and requests by class since the start; ascending."""

    def forget(self) -> None:
        """Begin anew at time 0; the history stays."""
        self._seen.clear()

    def observe(self, now_s: float, requests: NDArray[np.int64]) -> None:
        """Take note of the requests by class since the start."""
        if not self._seen:
            self._seen.append((0.0, np.zeros_like(requests)))
        if now_s > self._seen[-1][0]:
            self._seen.append((now_s, requests))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - _SEEN_S:
            self._seen.popleft()

    def peak_rps(self, begin_s: float, end_s: float) -> Numbers:
        """The busiest five minutes to expect of each class between two times."""
        template = self._template_rps(begin_s, end_s)
        if template is None:
            return self._busiest_seen_rps()
        return np.asarray(template.max(axis=0) * self._level())

    def _template_rps(self, begin_s: float, end_s: float) -> Numbers | None:
        """Last week's rates of the slots that a time touches, [slot, class]; None where they are not known."""
        if self.history is None:
            return None
        known = self.history.requests
        slots = np.arange(floor(begin_s / SLOT_S), max(ceil(end_s / SLOT_S), floor(begin_s / SLOT_S) + 1))
        rows = slots + len(known)
        rows -= WEEK_SLOTS * np.maximum(0, -(-(rows - len(known) + 1) // WEEK_SLOTS))
        return known[rows] / SLOT_S if (rows >= 0).all() else None

    def _level(self) -> float:
        """Load of the last minutes relative to the template's."""
        if len(self._seen) < 2:
            return 1.0
        (begin_s, before), (end_s, after) = self._seen[0], self._seen[-1]
        template = self._template_rps(begin_s, end_s)
        if template is None:
            return 1.0
        expected = float(template.sum(axis=1).mean() * (end_s - begin_s))
        return float((after - before).sum() / expected) if expected >= _FEWEST else 1.0

    def _busiest_seen_rps(self) -> Numbers:
        """By class, of the last half hour."""
        if len(self._seen) < 2:
            return self.known_rps
        times_s = np.array([time_s for time_s, _ in self._seen])
        totals = np.array([total for _, total in self._seen], np.float64)
        width_s = min(SLOT_S, float(times_s[-1] - times_s[0]))
        ends_s = np.arange(times_s[-1], times_s[0] + width_s - 1e-6, -width_s)
        counts = [
            np.interp(ends_s, times_s, column) - np.interp(ends_s - width_s, times_s, column) for column in totals.T
        ]
        return np.asarray(np.max(counts, axis=1) / width_s)
