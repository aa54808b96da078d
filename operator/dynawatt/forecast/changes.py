"""Sudden changes of level: a cumulative sum of surprises in each direction (CUSUM, Page, 1954).

When one passes its threshold, the level is what came since it last was at zero: the
likeliest moment of the change. Slow memories need not catch up.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dynawatt.forecast.slots import Numbers
from dynawatt.forecast.templates import KINDS

_ALLOWANCE: Final = 1.0
"""Surprise, in standard deviations, that is taken for noise each time."""
_THRESHOLD: Final = 10.0
_EVIDENCE_S: Final = 120.0
"""A change has lasted so long: a burst of seconds moves no level."""


@dataclass(slots=True)
class ChangeDetector:
    """Sums since each direction's surprise last was at zero; arrays have one entry per direction (down, up)."""

    surprise: Numbers = field(default_factory=lambda: np.zeros(2))
    lasted_s: Numbers = field(default_factory=lambda: np.zeros(2))
    requests: Numbers = field(default_factory=lambda: np.zeros(2))
    expected: Numbers = field(default_factory=lambda: np.zeros((2, len(KINDS))))
    """By the templates, at level 1."""

    def add(self, score: float, requests: float, template: Numbers, width_s: float) -> tuple[float, Numbers] | None:
        """Take a score (observed less forecast, in standard deviations) and what it was about.

        At a change returns the requests since, and what the templates have for that time.
        """
        self.surprise = np.maximum(0.0, self.surprise + np.array([-score, score]) - _ALLOWANCE)
        since = self.surprise > 0
        self.lasted_s = np.where(since, self.lasted_s + width_s, 0.0)
        self.requests = np.where(since, self.requests + requests, 0.0)
        self.expected = np.where(since[:, None], self.expected + template, 0.0)
        changed = (self.surprise > _THRESHOLD) & (self.lasted_s >= _EVIDENCE_S)
        if not changed.any():
            return None
        direction = int(np.argmax(self.surprise * changed))
        found = float(self.requests[direction]), self.expected[direction].copy()
        self.surprise[:] = self.lasted_s[:] = self.requests[:] = 0.0
        self.expected[:] = 0.0
        return found
