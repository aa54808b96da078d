"""Bands around a forecast that keep their coverage, whatever the load is distributed like.

Errors are taken in square roots of counts and divided by the scale that was expected
of them: the noise of counts (dispersion times the mean), the relative error of
forecasts at that lead, and how restless the last hour was. The quantiles of these
scores are those of the last two days, and of a few normal ones until there are
enough. That alone covers as promised only while nothing changes, so each tail is
widened by every miss and narrowed by every hit (adaptive conformal inference, Gibbs
and Candes, 2021; here in the logarithm of the tail, with slow forgetting).
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from dynawatt.forecast.slots import HORIZON_SLOTS, Numbers

TAIL: Final = 0.025
"""Each tail outside the band whose coverage is watched."""
_KEPT_SCORES: Final = 576
_RAREST: Final = 1e-6
_PRIOR_SCORES: Final = ndtri((np.arange(30) + 0.5) / 30)
_WIDEN: Final = 0.1
_FORGET: Final = 1 - 1 / 288
_TILTS: Final = (-1.0, 3.0)
_MEMORY: Final = 0.5 ** (1 / 576)
"""Of the relative error, per slot."""
_PRIOR_COUNT: Final = 5.0
"""Errors that the assumed relative error counts for."""
_RESTLESS_MEMORY: Final = 0.5 ** (1 / 24)
_CALM: Final = 20.0
"""Scores of size 1 that restlessness starts from."""
_FAR: Final = 1.5
"""A scale too small by more than this is corrected afterwards."""
_LARGEST: Final = 5.0
"""A score beyond this says no more about the scale than one of this size."""


def _row(value: float) -> Numbers:
    return np.full(HORIZON_SLOTS, value)


@dataclass(slots=True)
class Bands:
    """Scores and scales per lead; arrays have one entry per lead, or one column."""

    scores: Numbers = field(default_factory=lambda: np.full((_KEPT_SCORES, HORIZON_SLOTS), np.nan))
    scored: Numbers = field(default_factory=lambda: _row(0.0))
    dispersion: Numbers = field(default_factory=lambda: np.ones(1))
    """Variance over mean of the counts of slots, 1 for Poisson."""
    relative_variance: Numbers = field(default_factory=lambda: 0.01 * np.arange(1.0, HORIZON_SLOTS + 1))
    """Squared relative error of forecasts beyond that noise; assumed are a tenth in 5 minutes, half in two hours."""
    restless: Numbers = field(default_factory=lambda: _row(0.0))
    restless_count: Numbers = field(default_factory=lambda: _row(0.0))
    tilt: Numbers = field(default_factory=lambda: np.zeros((2, HORIZON_SLOTS)))
    """Logarithm of how much rarer the tails (lower, upper) are made than asked for."""

    def scale(self, mean: Numbers, leads: NDArray[np.int64], known_dispersion: float = 0.0) -> Numbers:
        """Standard deviation expected of the square root of counts, for means of slots at these leads (from 0).

        So much of the dispersion as is known elsewhere is left out.
        """
        restless = (_CALM + self.restless[leads]) / (_CALM + self.restless_count[leads])
        # However restless, a load is not expected beyond several times what is forecast.
        relative = np.clip(restless * self.relative_variance[leads], 0.0, 1.0)
        dispersion = max(0.0, float(self.dispersion[0]) - known_dispersion)
        return np.asarray(np.sqrt(restless * dispersion + relative * mean) / 2)

    def _calm_scale(self, mean: Numbers, leads: NDArray[np.int64]) -> Numbers:
        relative = np.clip(self.relative_variance[leads], 0.0, 1.0)
        return np.asarray(np.sqrt(self.dispersion[0] + relative * mean) / 2)

    def learn(self, requests: float, mean: Numbers, scale: Numbers, lower: Numbers, upper: Numbers) -> None:
        """What came in one slot, and what was forecast for it, by lead; NaN where nothing was."""
        due = np.flatnonzero(~np.isnan(mean))
        mean = mean[due]
        error = np.sqrt(requests) - np.sqrt(mean)
        missed = np.array([requests < lower[due], requests > upper[due]])
        self.tilt[:, due] = np.clip(self.tilt[:, due] * _FORGET + _WIDEN * (missed - TAIL), *_TILTS)

        calm = self._calm_scale(mean, due)
        squared = np.minimum((error / calm) ** 2, _LARGEST**2)
        self.restless[due] = self.restless[due] * _RESTLESS_MEMORY + squared
        self.restless_count[due] = self.restless_count[due] * _RESTLESS_MEMORY + 1
        beyond_noise = np.minimum(1.0, (4 * squared * calm**2 - self.dispersion[0]) / np.maximum(mean, 1.0))
        rate = np.maximum(1 - _MEMORY, 1 / (_PRIOR_COUNT + self.scored[due]))
        self.relative_variance[due] += rate * (beyond_noise - self.relative_variance[due])
        # Where the scale of the forecast was far too small, as at the start, the one known by now says how bad it was.
        score = error / np.maximum(scale[due], self._calm_scale(mean, due) / _FAR)
        self.scores[self.scored[due].astype(np.int64) % _KEPT_SCORES, due] = np.clip(score, -_LARGEST, _LARGEST)
        self.scored[due] += 1

    def learn_noise(self, requests: Numbers) -> None:
        """Dispersion from counts of slots in a row, NaN for gaps: what neither level nor slope explains is noise."""
        roots = np.sqrt(requests)
        bends = (roots[2:] - 2 * roots[1:-1] + roots[:-2]) ** 2 / 6
        bends = np.sort(bends[~np.isnan(bends)])
        typical = bends[: len(bends) - len(bends) // 50]  # no single burst decides
        self.dispersion[0] = (len(_PRIOR_SCORES) + 4 * typical.sum()) / (len(_PRIOR_SCORES) + len(typical))

    def quantiles(self, mean: Numbers, scale: Numbers, q: Numbers, leads: NDArray[np.int64]) -> Numbers:
        """Counts that are not exceeded with probability q, shape (len(q), slots).

        ``mean``, ``scale`` and ``leads`` (indices, from 0) have one entry per slot.
        """
        asked = np.clip(q, _RAREST, 1 - _RAREST)[:, None]
        # The further out, the more of the tilt, and none in the middle: so they stay in order for any tilt above -1.
        outward = np.abs(2 * asked - 1)
        below = asked * np.exp(-self.tilt[0, leads] * outward)
        above = (1 - asked) * np.exp(-self.tilt[1, leads] * outward)
        score = _score_quantiles(self.scores[:, leads], np.where(asked < 0.5, below, 1 - above))
        return np.asarray(np.maximum(0.0, np.sqrt(mean) + scale * score) ** 2)


def _score_quantiles(scores: Numbers, levels: Numbers) -> Numbers:
    """By column, of the scores and the prior ones; beyond the ends they grow as those of a normal distribution do."""
    # A rise that was missed says nothing of the next day: until the scores are full, each counts in both directions.
    scores = np.where(np.isnan(scores), -scores[::-1], scores)
    prior = np.broadcast_to(_PRIOR_SCORES[:, None], (len(_PRIOR_SCORES), scores.shape[1]))
    ordered = np.sort(np.concatenate([scores, prior]), axis=0)  # NaN comes last
    count = len(ordered) - np.isnan(ordered).sum(axis=0)
    place = np.clip(levels * (count + 1) - 1, 0, count - 1)
    low = place.astype(np.int64)
    below, above = (np.take_along_axis(ordered, at, axis=0) for at in (low, np.minimum(low + 1, count - 1)))
    found = below + (place - low) * (above - below)
    beyond = np.maximum(1.0, ndtri(levels) / ndtri(np.where(levels > 0.5, count, 1.0) / (count + 1)))
    outward = (found > 0) == (levels > 0.5)
    return np.asarray(np.where(outward, found * beyond, found))
