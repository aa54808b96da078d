"""Forecasts that have not come due: kept for two hours, to be scored slot by slot."""

from dataclasses import dataclass, field
from math import nan
from typing import Final

import numpy as np

from dynawatt.forecast.conformal import Bands
from dynawatt.forecast.experts import ExpertWeights
from dynawatt.forecast.levels import EXPERTS
from dynawatt.forecast.slots import HORIZON_SLOTS, Numbers

_LEADS: Final = np.arange(HORIZON_SLOTS)
_COMBINED: Final = 4
"""Mean, scale, lower and upper end of the band."""


def _by_lead(*shape: int) -> Numbers:
    return np.full((HORIZON_SLOTS, *shape, HORIZON_SLOTS), np.nan)


@dataclass(slots=True)
class Issued:
    """Rows are the first slot of a forecast modulo HORIZON_SLOTS, the last axis is the lead."""

    first_slot: Numbers = field(default_factory=lambda: np.full(HORIZON_SLOTS, np.nan))
    experts: Numbers = field(default_factory=lambda: _by_lead(EXPERTS))
    combined: Numbers = field(default_factory=lambda: _by_lead(_COMBINED))

    @property
    def nothing(self) -> bool:
        """Whether there is no forecast to be scored."""
        return bool(np.isnan(self.first_slot).all())

    def put(self, first_slot: int, experts: Numbers, *combined: Numbers) -> None:
        """Keep a forecast that begins at this slot: of every expert, and mean, scale and band of all together."""
        row = first_slot % HORIZON_SLOTS
        self.first_slot[row] = first_slot
        self.experts[row] = experts
        self.combined[row] = combined

    def mean_of(self, slot: int) -> float:
        """What the newest possible forecast has for a slot; NaN when there is none."""
        row = slot % HORIZON_SLOTS
        return float(self.combined[row, 0, 0]) if self.first_slot[row] == slot else nan

    def score(self, slot: int, requests: float, weights: ExpertWeights, bands: Bands) -> None:
        """A slot had so many requests: weights and bands learn from all that was forecast for it."""
        rows = (slot - _LEADS) % HORIZON_SLOTS
        due = self.first_slot[rows] == slot - _LEADS
        weights.learn(np.where(due, self.experts[rows, :, _LEADS].T, np.nan), requests)
        bands.learn(requests, *np.where(due, self.combined[rows, :, _LEADS].T, np.nan))

    def forget(self) -> None:
        """Score nothing that is still to come due."""
        self.first_slot[:] = np.nan
