"""Demand ahead as the planner takes it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.forecast.rate import RateForecast
from dynawatt.forecast.slots import SLOT_S

READY_FOR: Final = 0.975
"""Quantile of the forecast that replicas must be ready for."""
_EVEN: Final = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class DemandForecast:
    """Arrival rates per slot from now on; both arrays have the shape (slots,). Raises ValueError for what is none."""

    expected_rps: NDArray[np.float64]
    """What energy is counted at."""
    high_rps: NDArray[np.float64]
    """What replicas must be ready for: a high quantile, nowhere below what is expected."""
    slot_s: float = 300.0

    def __post_init__(self) -> None:
        """Check shapes and ranges."""
        if self.expected_rps.ndim != 1 or self.expected_rps.shape != self.high_rps.shape or not len(self.high_rps):
            raise ValueError(
                f"demand of shapes {self.expected_rps.shape} and {self.high_rps.shape}: must be equal and one row"
            )
        if not (np.isfinite(self.expected_rps).all() and np.isfinite(self.high_rps).all()):
            raise ValueError("demand holds NaN or infinity: every slot needs a rate")
        if (self.expected_rps < 0).any() or (self.high_rps < self.expected_rps).any():
            raise ValueError("demand: rates must be 0 or more, and what to be ready for not below what is expected")


def demand_ahead(forecast: RateForecast, now_s: float, known_dispersion: float = 0.0) -> DemandForecast | None:
    """What a forecast says from now on; None before its first observation.

    Surfaces are simulated with a service's bursts: what a replica carries leaves room for them. So replicas are to be
    ready for the rate that a slot may have, and not for its bursts once more: counts in a slot vary around its rate
    with ``known_dispersion``, the variance over the mean.
    """
    found = forecast.quantile_rps(now_s, np.array([_EVEN, READY_FOR]), known_dispersion=known_dispersion)
    if found is None:
        return None
    expected_rps, high_rps = found
    return DemandForecast(expected_rps, np.maximum(high_rps, expected_rps), SLOT_S)
