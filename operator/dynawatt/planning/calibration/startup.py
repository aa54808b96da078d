"""How long replicas of a shape take from creation to Ready, learnt from the last starts.

A plan that takes start-ups for shorter than they are is late for the load; one
slow pull of an image must not make all plans hasty. So the upper quartile of the
last starts counts, and until there are some, the profile's figure stands for them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import quantiles
from typing import Any, Final

from dynawatt.errors import InvalidInputError

_STARTS: Final = 12
"""That are remembered."""
_PRIOR_WEIGHT: Final = 3
"""Starts that the profile's figure stands for, as long as fewer were seen."""
_LONGEST_S: Final = 86400.0


@dataclass(slots=True)
class StartupTimes:
    """Of one shape."""

    prior_s: float
    """The profile's figure."""
    starts_s: list[float] = field(default_factory=list)
    """The last ones, oldest first."""

    def __post_init__(self) -> None:
        """Check the prior. Raises InvalidInputError."""
        _check("start-up time of the profile", self.prior_s)

    def observe(self, startup_s: float) -> None:
        """A replica became Ready after so many seconds. Raises InvalidInputError."""
        _check("observed start-up time", startup_s)
        self.starts_s = [*self.starts_s, startup_s][-_STARTS:]

    @property
    def expected_s(self) -> float:
        """What to plan with: the upper quartile."""
        known = [*self.starts_s, *[self.prior_s] * (_PRIOR_WEIGHT - len(self.starts_s))]
        return quantiles(known, n=4, method="inclusive")[2]

    def to_dict(self) -> dict[str, Any]:
        """As ``from_dict`` takes it; the prior belongs to the profile."""
        return {"starts": [round(each, 1) for each in self.starts_s]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], prior_s: float) -> "StartupTimes":
        """What ``to_dict`` gives. Raises InvalidInputError."""
        starts = values.get("starts") if isinstance(values, Mapping) and set(values) == {"starts"} else None
        if not isinstance(starts, Sequence) or isinstance(starts, str):
            raise InvalidInputError("calibration start-ups: must have exactly starts, an array of seconds")
        found = cls(prior_s)
        for each in starts:
            found.observe(each)
        return found


def _check(what: str, value_s: float) -> None:
    number = isinstance(value_s, int | float) and not isinstance(value_s, bool)
    if not number or not 0 <= value_s < inf or value_s > _LONGEST_S:
        raise InvalidInputError(f"{what}, {value_s!r} s: must be from 0 to {_LONGEST_S:.0f}")
