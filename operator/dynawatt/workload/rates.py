"""Rate curves: how many requests per second a service gets, as time goes on.

A curve is made from the mean levels of equal steps, which is what is published.
Inside a step the rate is a straight line whose mean is the step's level. Its
slope is limited by the neighbours (monotonised central, van Leer 1977), so that
the rate never leaves the range of the levels around it and never falls below 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RateCurve:
    """Requests per second over ``span_s``. Arrays have one entry per step."""

    step_s: float
    level_rps: Numbers
    rise_rps: Numbers
    """Rate at the end of the step minus that at its beginning."""
    count: Numbers
    """Requests expected before the step; one entry more, the last is all of them."""

    @property
    def span_s(self) -> float:
        """Length of the curve."""
        return self.step_s * len(self.level_rps)

    @property
    def mean_rps(self) -> float:
        """Mean rate."""
        return float(self.count[-1] / self.span_s)

    @property
    def peak_rps(self) -> float:
        """Highest mean rate of a step."""
        return float(self.level_rps.max())

    def rate_rps(self, time_s: Numbers) -> Numbers:
        """Rate at these times within the span."""
        step = self._step_of(time_s)
        way = time_s / self.step_s - step
        return np.asarray(self.level_rps[step] + self.rise_rps[step] * (way - 0.5))

    def count_by(self, time_s: Numbers) -> Numbers:
        """Requests expected before these times within the span."""
        step = self._step_of(time_s)
        way = time_s / self.step_s - step
        start_rps = self.level_rps[step] - self.rise_rps[step] / 2
        return np.asarray(self.count[step] + self.step_s * way * (start_rps + self.rise_rps[step] * way / 2))

    def time_of(self, count: Numbers) -> Numbers:
        """When so many requests are expected to have come: the inverse of ``count_by``; shape as the counts."""
        step = np.clip(np.searchsorted(self.count, count, side="right") - 1, 0, len(self.level_rps) - 1)
        left = np.maximum(0.0, count - self.count[step]) / self.step_s
        rise = self.rise_rps[step]
        start_rps = self.level_rps[step] - rise / 2
        # start w + rise w^2 / 2 = left, solved for w without cancellation; an empty step has neither.
        twice_mean = start_rps + np.sqrt(np.maximum(0.0, start_rps**2 + 2 * rise * left))
        way = np.divide(2 * left, twice_mean, out=np.zeros_like(left), where=twice_mean > 0)
        return np.asarray(self.step_s * (step + np.minimum(way, 1.0)))

    def _step_of(self, time_s: Numbers) -> NDArray[np.int64]:
        return np.clip((time_s / self.step_s).astype(np.int64), 0, len(self.level_rps) - 1)


def rate_curve(levels: Sequence[float], span_s: float, mean_rps: float) -> RateCurve:
    """Curve with these relative levels over equal steps and this mean rate. Raises InvalidInputError."""
    relative = np.array(levels, dtype=np.float64)
    if not len(relative) or not (relative >= 0).all() or not 0 < relative.sum() < np.inf:
        raise InvalidInputError(f"levels of a rate curve, {len(relative)} of them: must be 0 or more, not all 0")
    if not 0 < span_s < np.inf or not 0 < mean_rps < np.inf:
        raise InvalidInputError(f"rate curve over {span_s} s with mean {mean_rps} requests/s: both must be above 0")
    level = mean_rps * relative / relative.mean()
    step_s = span_s / len(level)
    change = np.diff(level)
    rise = np.zeros_like(level)
    if len(level) > 2:
        before, after = change[:-1], change[1:]
        limit = np.minimum(2 * np.minimum(np.abs(before), np.abs(after)), np.abs(before + after) / 2)
        rise[1:-1] = np.where(before * after > 0, np.sign(before) * limit, 0.0)
    return RateCurve(step_s, level, rise, np.concatenate([[0.0], np.cumsum(level)]) * step_s)
