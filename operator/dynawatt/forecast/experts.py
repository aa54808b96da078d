"""Which expert to believe: each forecast that came due moves the weights of the ones that made it.

The weight of an expert is a power of its mean absolute error, in square roots of
counts, at the same lead. A square root makes the noise of counts equally large at
any rate, and one burst does not decide. The power grows with what was seen: with
nothing, all experts count alike.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.forecast.levels import EXPERTS
from dynawatt.forecast.slots import HORIZON_SLOTS, Numbers

_KEPT: Final = 0.5 ** (1 / 144)
"""Of an error's weight per slot: half of it counts 12 hours later."""
_SHARPEST: Final = 24.0
"""Power of the error at the most."""


@dataclass(slots=True)
class ExpertWeights:
    """Discounted errors, shape (EXPERTS, HORIZON_SLOTS), and how many there were, shape (HORIZON_SLOTS,)."""

    error: Numbers = field(default_factory=lambda: np.zeros((EXPERTS, HORIZON_SLOTS)))
    count: Numbers = field(default_factory=lambda: np.zeros(HORIZON_SLOTS))

    def learn(self, forecasts: Numbers, requests: float) -> None:
        """Forecasts for one slot, shape (EXPERTS, HORIZON_SLOTS) by lead, NaN where there was none; what came."""
        due = ~np.isnan(forecasts[0])
        error = np.abs(np.sqrt(forecasts[:, due]) - np.sqrt(requests))
        self.error[:, due] = self.error[:, due] * _KEPT + error
        self.count[due] = self.count[due] * _KEPT + 1

    def combine(self, forecasts: Numbers, leads: NDArray[np.int64]) -> Numbers:
        """One forecast per slot of those of all experts, shape (EXPERTS, slots), for slots at these leads (from 0)."""
        count = self.count[leads]
        mean = self.error[:, leads] / np.maximum(count, 1)
        mean += 1e-6 * mean.mean(axis=0) + 1e-12  # an expert may have made no error at all
        weights = (mean.min(axis=0) / mean) ** np.minimum(count / 2, _SHARPEST)
        return np.asarray((weights * forecasts).sum(axis=0) / weights.sum(axis=0))
