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


def swing_within_slots(arrival_s: NDArray[np.float64], cv: float, weights: NDArray[np.float64]) -> float:
    """Busy minutes over the means of their slots, where chance alone would not make them so busy; 1 or more.

    Surfaces are simulated with renewal arrivals and independent lengths: where n requests are expected in a minute,
    n + 2.3 CV sqrt(n) come in one of a hundred, and likewise for their work. Only what the 99th percentile of the
    minutes is beyond that counts. 1 for less than two whole slots.

    Args:
        arrival_s: Ascending, [n].
        cv: Coefficient of variation of the gaps with which surfaces are simulated.
        weights: What each request counts, [n]; positive.
    """
    minute = (arrival_s / _MINUTE_S).astype(np.int64)
    minutes = np.bincount(minute, weights)[:-1]
    slots = len(minutes) // _MINUTES
    if slots < 2:
        return 1.0
    loads = minutes[: slots * _MINUTES].reshape(slots, _MINUTES)
    means = loads.mean(axis=1, keepdims=True)
    busy = means[:, 0] > 0
    if not busy.any():
        return 1.0
    seen = float(np.quantile(loads[busy] / means[busy], _HIGH))
    mean = float(weights.mean())
    chance = float(np.hypot(cv, weights.std() / mean) * np.sqrt(mean / loads[busy].mean()))
    return max(1.0, seen / (1 + _HIGH_SCORE * chance))
