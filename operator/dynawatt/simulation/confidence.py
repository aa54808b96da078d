"""How sure a simulated attainment is.

Misses come in clusters: a burst makes a hundred requests late at once, and a
long iteration is a long gap for every request that decodes in it. A binomial
interval over single requests or gaps would be far too narrow. The run is
therefore cut into batches; how much the attainment varies between them gives
the number of independent trials that the run is worth, and Wilson's interval is
taken for so many.
"""

from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.perfmodel.surface import UNKNOWN, Interval

_Z: Final = 1.96  # 95 %, both sides


def wilson_interval(share: float, trials: float) -> Interval:
    """Interval of a probability of which a ``share`` of ``trials`` came true (Wilson 1927)."""
    if not trials > 0:
        return UNKNOWN
    spread = _Z**2 / trials
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def attainment_interval(met: NDArray[np.float64], total: NDArray[np.float64], most_trials: float) -> Interval:
    """Interval of the sum of ``met`` over the sum of ``total``; both by batch.

    ``most_trials`` bounds the independent trials where the batches do not tell them apart, as when nothing was missed.
    """
    everything = float(total.sum())
    if not everything > 0:
        return UNKNOWN
    share = float(met.sum()) / everything
    freedom = max(1, len(total) - 1)
    # Variance of a ratio of sums over independent batches.
    variance = len(total) / freedom * float(((met - share * total) ** 2).sum()) / everything**2
    trials = min(everything, most_trials)
    if variance > 0:
        # So few batches know the variance itself but roughly: Student's quantile instead of the normal one, by its
        # expansion in 1/freedom.
        wider = 1 + (_Z**2 + 1) / (4 * freedom)
        trials = min(trials, share * (1 - share) / variance / wider**2)
    return wilson_interval(share, trials)
