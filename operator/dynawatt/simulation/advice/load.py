"""What a service was asked: its rate in slots of five minutes, its lengths and its burstiness."""

from dataclasses import dataclass

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import SLOT_S, Numbers
from dynawatt.workload.mix import LengthMix


@dataclass(frozen=True, slots=True, eq=False)
class ServiceLoad:
    """A load that was observed. Raises InvalidInputError when it holds nothing to advise on."""

    rate_rps: Numbers
    """Requests per second by slot; NaN where nothing is known."""
    width_s: Numbers
    """Of each slot: all are five minutes long, but the last may be shorter."""
    mix: LengthMix
    cv: float
    """Coefficient of variation of the gaps of the renewal process that is as bursty."""
    start_s: float = 0.0
    """When the first slot begins: Unix time, or 0 where only the time since then is known."""

    def __post_init__(self) -> None:
        """Check that there is a load."""
        if self.rate_rps.shape != self.width_s.shape or self.rate_rps.ndim != 1:
            raise ValueError(f"rates of shape {self.rate_rps.shape}, widths of {self.width_s.shape}: must be one row")
        if (self.rate_rps < 0).any() or np.isinf(self.rate_rps).any():
            raise ValueError("rates of a load: must be 0 or more, or NaN where nothing is known")
        if not self.requests > 0:
            raise InvalidInputError("the load holds no request: take a longer time or another service")

    @property
    def known(self) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Slots of which the rate is known."""
        return ~np.isnan(self.rate_rps)

    @property
    def known_s(self) -> float:
        """How much time is known."""
        return float(self.width_s[self.known].sum())

    @property
    def requests(self) -> float:
        """In all slots that are known."""
        return float(np.nansum(self.rate_rps * self.width_s))

    @property
    def mean_rps(self) -> float:
        """Over the time that is known."""
        return self.requests / self.known_s

    @property
    def peak_rps(self) -> float:
        """Of the busiest slot that is at least half as long as the others, or of a shorter load the busiest."""
        long = self.known & (self.width_s >= min(SLOT_S / 2, self.width_s[self.known].max()))
        return float(self.rate_rps[long].max())

    def per_day(self, total: float) -> float:
        """Something summed over the known time, per 24 hours."""
        return total * 86400.0 / self.known_s


def slot_widths(span_s: float) -> Numbers:
    """Slots of five minutes over a span; the last ends with it. A span of 0 is taken for a second."""
    span_s = max(span_s, 1.0)
    starts_s = np.arange(0.0, span_s, SLOT_S)
    return np.asarray(np.minimum(SLOT_S, span_s - starts_s))
