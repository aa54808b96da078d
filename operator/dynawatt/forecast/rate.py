"""Request rate over the next two hours, as quantiles per slot of five minutes.

Templates of a day and of a week say how the load usually goes, levels and trends of
the last minutes to days how it goes now, and the experts made of every combination
are weighed by how well they forecast at each lead; bands come from how far the
weighed forecast was off. With no history there is only the flat template and the
same machinery: what is learnt replaces what was assumed, with no switch in between.
"""

from dataclasses import dataclass, field
from math import isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.forecast.changes import ChangeDetector
from dynawatt.forecast.conformal import TAIL, Bands
from dynawatt.forecast.experts import ExpertWeights
from dynawatt.forecast.issued import Issued
from dynawatt.forecast.levels import Levels
from dynawatt.forecast.observing import Closed, Counted, OpenSlot, SetBack
from dynawatt.forecast.slots import (
    DAY_SLOTS,
    HORIZON_SLOTS,
    KEPT_SLOTS,
    SLOT_S,
    WEEK_SLOTS,
    Calendar,
    Numbers,
    SlotHistory,
    slot_counts,
)
from dynawatt.forecast.state import Array, collected, write_back
from dynawatt.forecast.templates import Templates, build_templates

_LEADS: Final = np.arange(HORIZON_SLOTS)
_BAND: Final = np.array([TAIL, 1 - TAIL])
_CARRIED_SLOTS: Final = 3.0
"""What the level of a history counts for at the start of the time after it."""
_OTHER_TIME: Final = 0.1
"""Relative error of a level that was learnt at another time, until the first slot of this one is over."""
_NOISE_SLOTS: Final = 2 * DAY_SLOTS
_COLD_SLOTS: Final = DAY_SLOTS
"""Until so many forecasts were scored, errors of a few slots say little about rare ones."""
_RISES: Final = np.interp(_LEADS, (0, 5, 11, 23), (1.5, 1.6, 1.9, 3.2))
"""Load at each lead over the highest of the last ten minutes, which it exceeds once in forty times: measured on the
burstier of two real weeks (code completion, Azure 2024; on that of conversations it is 1.05 to 1.35)."""


@dataclass(slots=True)
class RateForecast:
    """Learns from counts of requests, in order of time, and forecasts their rate."""

    calendar: Calendar = field(default_factory=Calendar)
    _open: OpenSlot = field(default_factory=OpenSlot)
    _history: SlotHistory = field(default_factory=SlotHistory)
    _templates: Templates = field(default_factory=Templates)
    _levels: Levels = field(default_factory=Levels)
    _changes: ChangeDetector = field(default_factory=ChangeDetector)
    _weights: ExpertWeights = field(default_factory=ExpertWeights)
    _bands: Bands = field(default_factory=Bands)
    _issued: Issued = field(default_factory=Issued)

    def observe(self, start_s: float, requests: float, width_s: float = SLOT_S) -> bool:
        """Count the requests of ``width_s`` seconds from ``start_s`` on; False when it was not used.

        Widths may vary, gaps are fine. What overlaps the time already counted is used for the rest of it. What lies
        before is ignored, unless it goes on: a third such observation in ascending order means that the clock was set
        back, and all that was seen at later times is forgotten. Raises ValueError for what is no count or no time.
        """
        events = self._open.take(self.calendar, start_s, requests, width_s)
        for event in events:
            match event:
                case SetBack(slot):
                    self._history.rewind(slot)
                    self._issued.forget()
                case Counted(slot, part, seconds, elapsed_s):
                    self._count(slot, part, seconds, elapsed_s)
                case Closed(slot, whole):
                    self._close(slot, whole)
        return bool(events)

    def learn(self, start_s: float, requests: Numbers, width_s: float = SLOT_S) -> None:
        """Learn from counts of earlier time, such as the week before: NaN where nothing is known.

        Every day of the last week is forecast as if its counts were not in the templates, so that the weights of
        experts and the bands are those to expect of days to come. Comes before the first observation. Raises
        ValueError for what is no count or no time.
        """
        if self.knows_something:
            raise ValueError("a history comes before the first observation: learn with a new forecast")
        first, counts = slot_counts(self.calendar, start_s, requests, width_s)
        for slot, count in zip(range(first, first + len(counts)), counts.tolist(), strict=True):
            self._history.put(slot, count)
        held_out = -1
        for slot in range(max(first, first + len(counts) - WEEK_SLOTS), first + len(counts)):
            count = float(counts[slot - first])
            if slot // DAY_SLOTS != held_out:
                held_out = slot // DAY_SLOTS
                self._use(build_templates(self._history, held_out % (KEPT_SLOTS // DAY_SLOTS)), slot)
                self._bands.learn_noise(counts[max(0, slot - first - _NOISE_SLOTS) : slot - first])
            if isfinite(count):
                self._count(slot, count, SLOT_S, SLOT_S)
                self._issued.score(slot, count, self._weights, self._bands)
                self._issue(slot + 1)
        self._use(build_templates(self._history), first + len(counts))
        self._levels.loosen(_CARRIED_SLOTS)
        self._issued.forget()
        self._open.start_at(self.calendar.start_s(first + len(counts)))

    @property
    def knows_something(self) -> bool:
        """Whether there was any observation or history."""
        return bool(self._levels.expected.any())

    def quantile_rps(
        self, now_s: float, q: float | Numbers, slots: int = HORIZON_SLOTS, *, known_dispersion: float = 0.0
    ) -> Numbers | None:
        """Mean rate over each slot that is not exceeded with probability ``q``; None before the first observation.

        Counts of a slot vary by chance around the rate that the load has then. Whoever allows for that otherwise says
        how much of it (``known_dispersion``, variance over mean of the counts), and it is left out of the quantiles.

        The first slot is the one that holds ``now_s``. Shape (slots,), or (len(q), slots) for several q. The longer
        ago the last observation, the wider. Raises ValueError for q outside 0 to 1 or a time that is none.
        """
        asked = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if not ((asked > 0) & (asked < 1)).all():
            raise ValueError(f"q is {q}: must be above 0 and below 1")
        if not isfinite(now_s):
            raise ValueError(f"now_s is {now_s}: must be a finite time in s")
        if not self.knows_something:
            return None
        first = self.calendar.slot(now_s)
        stale = max(0, first - self._open.slot(self.calendar))
        mean, scale, leads = self._ahead(first, np.arange(stale, stale + slots, dtype=np.int64), known_dispersion)
        found = self._bands.quantiles(mean, scale, asked, leads) / SLOT_S
        if self._bands.scored[0] < _COLD_SLOTS:
            lately = np.nanmax([mean[0], *self._history.last(2)])
            found = np.minimum(found, np.maximum(mean, lately * _RISES[leads]) / SLOT_S)
        return found if np.ndim(q) else found[0]

    def band(self, now_s: float, coverage: float = 0.95, slots: int = HORIZON_SLOTS) -> tuple[Numbers, Numbers] | None:
        """Lower and upper rate that hold the load of each slot with this probability, as ``quantile_rps``."""
        tail = (1 - coverage) / 2
        found = self.quantile_rps(now_s, np.array([tail, 1 - tail]), slots)
        return None if found is None else (found[0], found[1])

    def state(self) -> dict[str, Array]:
        """All that was learnt, as plain arrays by name."""
        return collected(self)

    def restore(self, arrays: dict[str, Array]) -> None:
        """Go on from a state. Raises ValueError when it is not one of this version."""
        write_back(self, arrays)

    def _count(self, slot: int, requests: float, width_s: float, elapsed_s: float) -> None:
        """Correct the levels by requests of part of a slot."""
        template = self._templates.ahead(slot, 1)[:, 0] * (width_s / SLOT_S)
        self._levels.add(requests, template, elapsed_s)
        expected = self._issued.mean_of(slot)
        if not isfinite(expected):
            return
        share = width_s / SLOT_S
        [scale] = self._bands.scale(np.array([expected * share]), _LEADS[:1])
        score = (np.sqrt(requests) - np.sqrt(expected * share)) / scale
        changed = self._changes.add(float(score), requests, template, width_s)
        if changed:
            self._levels.restart(*changed)

    def _close(self, slot: int, requests: float) -> None:
        """A slot is over: score what was forecast for it, and forecast anew."""
        self._history.put(slot, requests)
        if isfinite(requests):
            self._bands.learn_noise(self._history.last(_NOISE_SLOTS))
            self._issued.score(slot, requests, self._weights, self._bands)
        if (slot + 1) % DAY_SLOTS == 0:
            self._use(build_templates(self._history), slot + 1)
        self._issue(slot + 1)

    def _issue(self, slot: int) -> None:
        template = self._templates.ahead(slot, HORIZON_SLOTS)
        experts = self._levels.ahead(template)
        mean = self._weights.combine(experts, _LEADS)
        scale = self._bands.scale(mean, _LEADS)
        lower, upper = self._bands.quantiles(mean, scale, _BAND, _LEADS)
        self._issued.put(slot, experts, mean, scale, lower, upper)

    def _ahead(
        self, slot: int, leads: NDArray[np.int64], known_dispersion: float
    ) -> tuple[Numbers, Numbers, NDArray[np.int64]]:
        """Mean and scale of the counts of slots, and the leads whose errors tell about them."""
        told = np.minimum(leads, HORIZON_SLOTS - 1)
        mean = self._weights.combine(self._levels.ahead(self._templates.ahead(slot, len(leads))), told)
        scale = self._bands.scale(mean, told, known_dispersion)
        if self._issued.nothing:
            scale = np.hypot(scale, np.sqrt(mean) * _OTHER_TIME / 2)
        # Errors of a wandering level grow with the square root of the lead; it does not wander for more than a day.
        return mean, scale * np.sqrt((np.minimum(leads, DAY_SLOTS) + 1) / (told + 1)), told

    def _use(self, templates: Templates, slot: int) -> None:
        """Other templates from this slot on: the levels go on so that the next two hours stay what they were."""
        before, after = (each.ahead(slot, HORIZON_SLOTS).mean(axis=1) for each in (self._templates, templates))
        self._levels.rescale(after / before)
        self._templates = templates
