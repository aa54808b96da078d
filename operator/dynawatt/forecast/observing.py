"""From observations of any width to slots, in order of time, whatever the clock does."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from typing import Final

import numpy as np

from dynawatt.forecast.slots import SLOT_S, Calendar, Numbers

LATE_LIMIT: Final = 3
"""So many observations in a row, in ascending order but before the time already counted: the clock was set back."""
MAX_TIME_S: Final = 1e11
MAX_WIDTH_S: Final = 86400.0
_ENOUGH_S: Final = SLOT_S / 2
"""A slot that was seen for less has no count."""
_EPSILON_S: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Counted:
    """Part of an observation that lies within one slot."""

    slot: int
    requests: float
    width_s: float
    elapsed_s: float
    """From the end of what was counted before to the end of this."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A slot is over."""

    slot: int
    requests: float
    """NaN when too little of the slot was seen."""


@dataclass(frozen=True, slots=True)
class SetBack:
    """The clock was set back: this slot and all later ones lie ahead again."""

    slot: int


@dataclass(slots=True)
class OpenSlot:
    """The slot that is being counted. Numbers are arrays of one, as all state is."""

    end_s: Numbers = field(default_factory=lambda: np.full(1, -inf))
    """End of what was counted."""
    requests: Numbers = field(default_factory=lambda: np.zeros(1))
    covered_s: Numbers = field(default_factory=lambda: np.zeros(1))
    late: Numbers = field(default_factory=lambda: np.array([0.0, -inf]))
    """How many late observations came in a row, and when the last of them began."""

    def take(
        self, calendar: Calendar, start_s: float, requests: float, width_s: float
    ) -> list[Counted | Closed | SetBack]:
        """What an observation brings about, in order; nothing when it is not used. Raises ValueError."""
        if not (isfinite(requests) and requests >= 0):
            raise ValueError(f"requests is {requests}: must be a number >= 0")
        if not 0 < width_s <= MAX_WIDTH_S:
            raise ValueError(f"width_s is {width_s}: must be above 0 and at most {MAX_WIDTH_S:g}")
        if not abs(start_s) <= MAX_TIME_S:
            raise ValueError(f"start_s is {start_s}: must be a time in s (not ms)")
        found: list[Counted | Closed | SetBack] = []
        end_s = start_s + width_s
        if end_s <= self.end_s[0] + _EPSILON_S:
            if not self._set_back(start_s):
                return found
            self.start_at(start_s)
            found.append(SetBack(calendar.slot(start_s)))
        self.late[:] = 0.0, -inf
        per_s = requests / width_s
        at_s = max(start_s, float(self.end_s[0]))
        while at_s < end_s - _EPSILON_S:
            slot = calendar.slot(at_s + _EPSILON_S)
            until_s = min(end_s, calendar.start_s(slot + 1))
            found += self._add(calendar, slot, per_s * (until_s - at_s), at_s, until_s)
            at_s = until_s
        return found

    def start_at(self, time_s: float) -> None:
        """Everything before this time is counted or lost."""
        self.end_s[0] = time_s
        self.requests[0] = self.covered_s[0] = 0.0

    def slot(self, calendar: Calendar) -> int:
        """The slot that comes next, or is half counted."""
        return calendar.slot(float(self.end_s[0]) + _EPSILON_S)

    def _set_back(self, start_s: float) -> bool:
        goes_on = start_s > self.late[1]
        self.late[:] = self.late[0] + 1 if goes_on else 1.0, start_s
        return bool(self.late[0] >= LATE_LIMIT)

    def _add(
        self, calendar: Calendar, slot: int, requests: float, at_s: float, until_s: float
    ) -> Iterator[Counted | Closed]:
        if self.covered_s[0] > 0 and slot > (before := calendar.slot(float(self.end_s[0]) - _EPSILON_S)):
            yield self._close(before)  # a gap began within it
        elapsed_s = until_s - float(self.end_s[0]) if isfinite(self.end_s[0]) else until_s - at_s
        yield Counted(slot, requests, until_s - at_s, elapsed_s)
        self.requests[0] += requests
        self.covered_s[0] += until_s - at_s
        self.end_s[0] = until_s
        if until_s >= calendar.start_s(slot + 1) - _EPSILON_S:
            yield self._close(slot)

    def _close(self, slot: int) -> Closed:
        covered_s = float(self.covered_s[0])
        requests = float(self.requests[0]) * SLOT_S / covered_s if covered_s >= _ENOUGH_S - _EPSILON_S else nan
        self.requests[0] = self.covered_s[0] = 0.0
        return Closed(slot, requests)
