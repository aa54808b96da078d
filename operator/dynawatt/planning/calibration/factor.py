"""A bounded factor in steps: up at once when the model proves too optimistic, down slowly when it proves too careful.

A factor moves in steps because every new value means new surfaces. A ratio may be
above the factor by as much as predictions themselves are short at high load.
A factor is lowered only as far as the least favourable of many verdicts in a row
allows, with a margin, so that a ratio between two steps moves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Final

from dynawatt.errors import InvalidInputError

STEP: Final = 0.025
LEAST: Final = 0.7
MOST: Final = 1.5
BAND: Final = 1.25
"""A factor above it, or below 1 / 1.25, is no calibration any more: the profile is of something else."""
NEAREST: Final = 0.5
"""Steps that a ratio may be above its factor, where it is as often too low as too high."""
_MARGIN: Final = 0.2
"""More steps by which it must be below, for a lower factor."""
_VERDICTS_TO_LOWER: Final = 6
"""In a row, each from windows of its own: about half an hour."""
_MOST_LOWERED: Final = 4
"""Steps at once."""
_LOWEST_STEP, _HIGHEST_STEP = round((LEAST - 1) / STEP), round((MOST - 1) / STEP)


@dataclass(slots=True)
class Factor:
    """What the profile's figure is multiplied by."""

    above: float = NEAREST
    """Steps that a ratio may be above it."""
    steps: int = 0
    """Of ``STEP`` above 1."""
    below: int = 0
    """Verdicts in a row for a lower factor."""
    least: int = _LOWEST_STEP
    """The highest of the steps that these would allow."""

    @property
    def value(self) -> float:
        """Between ``LEAST`` and ``MOST``."""
        return round(1 + self.steps * STEP, 3)

    @property
    def at_bound(self) -> bool:
        """Whether it can go no further."""
        return self.steps in {_LOWEST_STEP, _HIGHEST_STEP}

    @property
    def drifted(self) -> bool:
        """Whether it is no calibration any more."""
        return self.at_bound or not 1 / BAND <= self.value <= BAND

    def judge(self, ratio: float, half_width: float) -> bool:
        """Whether a well-founded ratio of observed to predicted changes the factor, and by what."""
        before = self.steps
        wanted, allowed = self._steps_for(ratio), self._steps_for(ratio + _MARGIN * STEP)
        if wanted > self.steps and ratio - half_width > self.value:
            self.steps = wanted
            self._forget()
        elif allowed < self.steps and ratio + half_width < self.value:
            self.below += 1
            self.least = max(self.least, allowed)
            if self.below >= _VERDICTS_TO_LOWER:
                self.steps = max(self.least, self.steps - _MOST_LOWERED)
                self._forget()
        else:
            self._forget()
        return self.steps != before

    def _steps_for(self, ratio: float) -> int:
        """Of the lowest factor that a ratio is not too far above of."""
        return min(_HIGHEST_STEP, max(_LOWEST_STEP, ceil((ratio - 1) / STEP - self.above - 1e-9)))

    def _forget(self) -> None:
        self.below, self.least = 0, _LOWEST_STEP

    def to_dict(self) -> dict[str, Any]:
        """As ``from_dict`` takes it."""
        return {"factor": self.value, "below": self.below, "least": round(1 + self.least * STEP, 3)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], above: float = NEAREST) -> "Factor":
        """What ``to_dict`` gives; a factor between two steps becomes the higher one. Raises InvalidInputError."""
        if not isinstance(values, Mapping) or set(values) != {"factor", "below", "least"}:
            raise InvalidInputError("calibration factor: must have exactly factor, below, least")
        below = values["below"]
        if isinstance(below, bool) or not isinstance(below, int) or not 0 <= below < _VERDICTS_TO_LOWER:
            raise InvalidInputError(f"calibration below {below!r}: must be a whole number below {_VERDICTS_TO_LOWER}")
        return cls(above, _steps_of("factor", values["factor"]), below, _steps_of("least", values["least"]))


def _steps_of(name: str, factor: Any) -> int:
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not LEAST <= factor <= MOST:
        raise InvalidInputError(f"calibration {name} {factor!r}: must be a number from {LEAST} to {MOST}")
    return ceil((factor - 1) / STEP - 1e-6)
