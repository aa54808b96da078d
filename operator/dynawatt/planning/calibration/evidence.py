"""Observed over predicted, from many windows: their ratio, and how well it is known.

The ratio of sums is what means over all windows give. Its error comes from how far
single windows are from it, so it holds whatever makes them differ: few requests,
mixes that change, a clock that moved. Only sums are kept.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf, isfinite, sqrt
from typing import Any, Final

from dynawatt.errors import InvalidInputError

_FEWEST_WINDOWS: Final = 8
"""For an error of the ratio that means something."""
_LEAST_S: Final = 300.0
"""Which they cover: what a ratio says must hold for longer than a burst."""
_WIDEST: Final = 0.025
"""Half width of the 95 % confidence interval with which a ratio may move a factor: about a step."""
_MEMORY: Final = 64
"""Windows after which older ones count half: what never gets clear must not be slow to change for ever."""
_MOST_OFF: Final = 3.0
"""A window further off than this counts as so far off: it is a stall or a hole in the metrics, not a model."""
_Z95: Final = 2.0


@dataclass(slots=True)
class Evidence:
    """Sums over windows of what was observed (o) and predicted (p)."""

    windows: float = 0.0
    seconds: float = 0.0
    count: float = 0.0
    """Requests, gaps or seconds that stand behind them."""
    o: float = 0.0
    p: float = 0.0
    oo: float = 0.0
    op: float = 0.0
    pp: float = 0.0

    def add(self, observed: float, predicted: float, count: float, window_s: float) -> None:
        """One window; one without a prediction tells nothing."""
        if not predicted > 0:
            return
        if self.windows >= _MEMORY:
            for each in fields(self):
                setattr(self, each.name, getattr(self, each.name) / 2)
        observed = min(max(observed, predicted / _MOST_OFF), predicted * _MOST_OFF)
        self.windows += 1
        self.seconds += window_s
        self.count += count
        self.o += observed
        self.p += predicted
        self.oo += observed * observed
        self.op += observed * predicted
        self.pp += predicted * predicted

    @property
    def ratio(self) -> float:
        """Observed over predicted; 1 of nothing."""
        return self.o / self.p if self.p > 0 else 1.0

    @property
    def half_width(self) -> float:
        """Of the ratio's 95 % confidence interval; infinite of fewer than two windows."""
        if self.windows < 2:
            return inf
        ratio = self.ratio
        squares = max(0.0, self.oo - 2 * ratio * self.op + ratio * ratio * self.pp)
        return _Z95 * sqrt(squares * self.windows / (self.windows - 1)) / self.p

    def thin(self, fewest: float, what: str) -> str:
        """Why it does not suffice yet, as a clause; empty when it does.

        Args:
            fewest: What the count must reach.
            what: What is counted.
        """
        if self.count < fewest:
            return f"{self.count:,.0f} {what}, {fewest:,.0f} are needed"
        if self.windows < _FEWEST_WINDOWS:
            return f"{self.windows:.0f} windows, {_FEWEST_WINDOWS} are needed"
        if self.seconds < _LEAST_S:
            return f"{self.seconds:.0f} s, {_LEAST_S:.0f} are needed"
        if self.half_width > _WIDEST:
            return f"{self}: must be known to ± {_WIDEST:.1%}"
        return ""

    def __str__(self) -> str:
        """The ratio as text."""
        return f"observed over predicted is {self.ratio:.3f} ± {self.half_width:.3f}"

    def to_dict(self) -> dict[str, float]:
        """As ``from_dict`` takes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Evidence":
        """Strictly what ``to_dict`` gives. Raises InvalidInputError."""
        names = [each.name for each in fields(cls)]
        if not isinstance(values, Mapping) or set(values) != set(names):
            raise InvalidInputError(f"calibration evidence: must have exactly {', '.join(names)}")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
                raise InvalidInputError(f"calibration evidence {name} {value!r}: must be a number of 0 or more")
        return cls(**{name: float(values[name]) for name in names})
