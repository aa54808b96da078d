"""What the knob Clock saves, from pairs of periods with and without it.

Each pair gives one difference of mean watts. Load is not the same in both of its
periods, and watts follow load, so the differences are regressed on the difference
of the loads; what is left where the loads are equal is the saving, and over the
mean watts with the clock off it is a fraction. Its interval is Student's over the
pairs, with a variance from how much leaving out each single pair would change it,
so that no two pairs need to be equally exact. The coin that orders each pair makes drifts of
load and watts count with random signs, so that pairs are independent of one
another even where the load of one hour resembles that of the next.

It is the saving over the time in which pairs were compared. Pairs are spread
evenly over hours, so after whole days that is the saving over the day; where it
differs over the day, the interval is wider than it need be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

FEWEST_PAIRS: Final = 12
_CONFIDENCE: Final = 0.95
_MOST_LEVERAGE: Final = 0.9

Numbers: TypeAlias = NDArray[np.float64]


class Pair(NamedTuple):
    """Two periods side by side."""

    end_s: float
    """Unix time at which they were over."""
    off_w: float
    """Mean watts of the service with the clock off."""
    on_w: float
    off_load: float
    """Mean of whatever the watts follow, such as requests per second; the clock must not be able to change it."""
    on_load: float


@dataclass(frozen=True, slots=True)
class SwitchbackSaving:
    """Measured, as a fraction of the power with the clock off."""

    ratio: float
    low: float
    high: float
    """Ends of the 95 % interval."""
    saved_w: float
    """Mean over all pairs, where loads are equal."""
    pairs: int

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves no doubt that something is saved."""
        return self.low > 0


def estimate(pairs: Sequence[Pair]) -> SwitchbackSaving | None:
    """The saving of the knob Clock; None for fewer than ``FEWEST_PAIRS``, or where nothing was drawn."""
    count = len(pairs)
    if count < FEWEST_PAIRS:
        return None
    table = np.array(pairs, dtype=np.float64)
    off_w, difference_w, load = table[:, 1], table[:, 1] - table[:, 2], table[:, 3] - table[:, 4]
    mean_w = float(off_w.mean())
    if mean_w <= 0:
        return None
    line = _regressed(difference_w, load)
    saved_w = float(line.weights @ difference_w)
    ratio = saved_w / mean_w
    # How far the ratio would move without each pair, in first order (the variance that is called HC3).
    left_w = (difference_w - saved_w - line.slope * load) / (1 - line.leverage)
    error = (line.weights * left_w - ratio * (off_w - mean_w) / (count - 1)) / mean_w
    half = float(stdtrit(count - 2, (1 + _CONFIDENCE) / 2)) * float(np.sqrt((error**2).sum()))
    return SwitchbackSaving(ratio, ratio - half, ratio + half, saved_w, count)


class _Line(NamedTuple):
    """Through points."""

    slope: float
    weights: Numbers
    """Of the points' y in the line's value at x = 0."""
    leverage: Numbers
    """How much each point draws the line to itself, from 0 to 1."""


def _regressed(y: Numbers, x: Numbers) -> _Line:
    count, around = len(x), x - x.mean()
    spread = float(around @ around)
    even = np.full(count, 1 / count)
    if spread <= 0:
        return _Line(0.0, even, even)
    # A pair that alone has another load lies on any line: it is given no weight rather than an infinite one.
    leverage = np.minimum(even + around**2 / spread, _MOST_LEVERAGE)
    return _Line(float(around @ y) / spread, even - x.mean() * around / spread, leverage)
