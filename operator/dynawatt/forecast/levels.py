"""Level and trend of the load relative to each template, remembered over several times.

A level is a ratio of sums, requests over what the template has, with older slots
discounted: it needs no logarithm, so an empty slot is as good as any, and it is the
best estimate where the variance of counts grows with their mean. The trend is
Brown's: the difference of two levels that remember for different times.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dynawatt.forecast.slots import SLOT_S, Numbers
from dynawatt.forecast.templates import KINDS

HALF_LIVES_S: Final = (300.0, 1200.0, 5400.0, 21600.0, 86400.0)
TRENDS: Final = ((0, 1), (1, 2))
"""Pairs of half-lives whose levels make a trend."""
EXPERTS: Final = len(KINDS) * (len(HALF_LIVES_S) + len(TRENDS))
_DAMPING: Final = 0.9
"""Of a trend, per slot: it is followed for about 45 minutes in all."""
_STEEPEST: Final = 0.5
"""A trend changes the level by no more than this part of it per slot."""
_MEAN_AGE_S: Final = np.array(HALF_LIVES_S) / np.log(2)


@dataclass(slots=True)
class Levels:
    """Discounted sums, each of shape (kinds, half-lives)."""

    requests: Numbers = field(default_factory=lambda: np.zeros((len(KINDS), len(HALF_LIVES_S))))
    expected: Numbers = field(default_factory=lambda: np.zeros((len(KINDS), len(HALF_LIVES_S))))
    """What the template has for the same time, at level 1."""

    def add(self, requests: float, template: Numbers, elapsed_s: float) -> None:
        """Count requests of a time for which the templates have so much (shape (kinds,)); ``elapsed_s`` have passed."""
        kept = 0.5 ** (elapsed_s / np.array(HALF_LIVES_S))
        self.requests = self.requests * kept + requests
        self.expected = self.expected * kept + template[:, None]

    def rescale(self, factor: Numbers) -> None:
        """The templates (shape (kinds,)) have become so much larger; what is expected stays."""
        self.expected = self.expected * factor[:, None]

    def restart(self, requests: float, template: Numbers) -> None:
        """Remember nothing but so many requests, for which the templates (shape (kinds,)) have so much."""
        self.requests[:] = requests
        self.expected[:] = template[:, None]

    def loosen(self, slots: float) -> None:
        """Keep the levels with the weight of so many slots at most, for a start in another time."""
        factor = np.minimum(1.0, slots / np.maximum(self.expected, 1e-300))
        self.requests, self.expected = self.requests * factor, self.expected * factor

    def ahead(self, template: Numbers) -> Numbers:
        """Requests per slot by each expert, shape (EXPERTS, slots), for templates of shape (kinds, slots)."""
        level = self.requests / np.maximum(self.expected, 1e-300)
        steps = np.cumsum(_DAMPING ** np.arange(1, template.shape[1] + 1))
        steady = np.broadcast_to(level[:, :, None], (*level.shape, template.shape[1]))
        rising = []
        for fast, slow in TRENDS:
            per_slot = SLOT_S * (level[:, fast] - level[:, slow]) / (_MEAN_AGE_S[slow] - _MEAN_AGE_S[fast])
            now = level[:, fast] + per_slot * (_MEAN_AGE_S[fast] / SLOT_S)
            per_slot = np.clip(per_slot, -_STEEPEST * level[:, fast], _STEEPEST * level[:, fast])
            rising.append(np.maximum(0.0, now[:, None] + per_slot[:, None] * steps))
        levels = np.concatenate([steady, np.stack(rising, axis=1)], axis=1)
        return np.asarray(levels * template[:, None, :]).reshape(EXPERTS, template.shape[1])
