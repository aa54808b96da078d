"""How much a load swings within the five minutes of a slot, beyond what surfaces know."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_MINUTE_S: Final = 60.0
_MINUTES: Final = 5
"""Of a slot."""
_HIGH: Final = 0.99
_HIGH_SCORE: Final = 2.326
"""That quantile of the standard normal distribution."""


def swing_within_slots(arrival_s: NDArray[np.float64], cv: float) -> float:
    """Busy minutes over the means of their slots, where arrivals alone would not make them so busy; 1 or more.

    Surfaces are simulated with renewal arrivals: where n requests are expected in a minute, n + 2.3 CV sqrt(n) come in
    one of a hundred. Only what the 99th percentile of the minutes is beyond that counts. 1 for less than two whole
    slots.
    """
    minutes = np.bincount((arrival_s / _MINUTE_S).astype(np.int64))[:-1]
    slots = len(minutes) // _MINUTES
    if slots < 2:
        return 1.0
    counts = minutes[: slots * _MINUTES].reshape(slots, _MINUTES)
    means = counts.mean(axis=1, keepdims=True)
    busy = means[:, 0] > 0
    if not busy.any():
        return 1.0
    seen = float(np.quantile(counts[busy] / means[busy], _HIGH))
    by_chance = 1 + _HIGH_SCORE * cv / float(np.sqrt(counts[busy].mean()))
    return max(1.0, seen / by_chance)
