"""Time in slots of five minutes, and the counts of the last four weeks.

Slots are numbered from the start of a week, so that a slot's number says where in
its week it lies. Times are any seconds that go on evenly: Unix time in the
operator, time since the start in a simulation.
"""

from dataclasses import dataclass, field
from math import floor
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

SLOT_S: Final = 300.0
HORIZON_SLOTS: Final = 24
"""Two hours are forecast."""
DAY_SLOTS: Final = 288
WEEK_SLOTS: Final = 7 * DAY_SLOTS
KEPT_WEEKS: Final = 4
KEPT_SLOTS: Final = KEPT_WEEKS * WEEK_SLOTS
UNIX_MONDAY_S: Final = 4 * 86400.0
"""A Monday 00:00 UTC in Unix time, which began on a Thursday."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """Where slots lie in time."""

    monday_s: float = UNIX_MONDAY_S
    """The start of any week; weekdays are those of the five days from here on."""

    def slot(self, time_s: float) -> int:
        """Number of the slot that holds this time."""
        return floor((time_s - self.monday_s) / SLOT_S)

    def start_s(self, slot: int) -> float:
        """When a slot begins."""
        return self.monday_s + slot * SLOT_S


@dataclass(slots=True)
class SlotHistory:
    """Requests per slot of the last four weeks; NaN where too little was seen."""

    requests: Numbers = field(default_factory=lambda: np.full(KEPT_SLOTS, np.nan))
    """By slot number modulo KEPT_SLOTS, so that row w, column s of ``weeks`` is slot s of a week."""
    next_slot: Numbers = field(default_factory=lambda: np.full(1, np.nan))
    """Number of the slot after the last one that was put in; NaN before any."""

    def put(self, slot: int, requests: float) -> None:
        """Write the count of a slot; what lies between the newest one and it was not seen."""
        if np.isfinite(self.next_slot[0]):
            skipped = slot - int(self.next_slot[0])
            if skipped >= KEPT_SLOTS:
                self.requests[:] = np.nan
            elif skipped > 0:
                self.requests[np.arange(slot - skipped, slot) % KEPT_SLOTS] = np.nan
        self.requests[slot % KEPT_SLOTS] = requests
        self.next_slot[0] = slot + 1

    def rewind(self, slot: int) -> None:
        """Forget this slot and all later ones."""
        if np.isfinite(self.next_slot[0]) and slot < self.next_slot[0]:
            later = np.arange(max(slot, int(self.next_slot[0]) - KEPT_SLOTS), int(self.next_slot[0]))
            self.requests[later % KEPT_SLOTS] = np.nan
            self.next_slot[0] = slot

    def last(self, count: int) -> Numbers:
        """The newest ``count`` slots in order of time."""
        end = int(self.next_slot[0]) if np.isfinite(self.next_slot[0]) else 0
        return self.requests[np.arange(end - count, end) % KEPT_SLOTS]

    def weeks(self) -> Numbers:
        """All slots, shape (KEPT_WEEKS, WEEK_SLOTS); rows are in no particular order."""
        return self.requests.reshape(KEPT_WEEKS, WEEK_SLOTS)


def slot_counts(calendar: Calendar, start_s: float, requests: Numbers, width_s: float) -> tuple[int, Numbers]:
    """First slot, and requests per slot, of counts of any width; NaN where less than half of a slot is known.

    Counts are spread evenly over their width. Raises ValueError for what is no count (but NaN) or no time.
    """
    if not (np.isfinite(start_s) and 0 < width_s < np.inf):
        raise ValueError(f"history from {start_s} s in steps of {width_s} s: must be times")
    if np.ndim(requests) != 1 or not len(requests) or (requests < 0).any() or np.isinf(requests).any():
        raise ValueError("requests of a history: must be a row of numbers >= 0, or NaN where nothing is known")
    known = ~np.isnan(requests)
    edges_s = start_s + width_s * np.arange(len(requests) + 1)
    first, last = calendar.slot(start_s), calendar.slot(float(edges_s[-1]) - 1e-3)
    bounds_s = calendar.monday_s + SLOT_S * np.arange(first, last + 2)
    total = np.interp(bounds_s, edges_s, np.concatenate([[0.0], np.cumsum(np.where(known, requests, 0.0))]))
    known_s = np.interp(bounds_s, edges_s, np.concatenate([[0.0], np.cumsum(known * width_s)]))
    covered_s = np.diff(known_s)
    enough = covered_s >= SLOT_S / 2 - 1e-3
    return first, np.divide(np.diff(total) * SLOT_S, covered_s, out=np.full(len(enough), np.nan), where=enough)
