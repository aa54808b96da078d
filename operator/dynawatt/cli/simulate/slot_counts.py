"""A load as counts by slot and class, and the week before it.

Whoever learns is given the week before: the same workload drawn with another seed,
its level off by a tenth. A workload shorter than a week is taken to have come again
and again, from the start of that week on. A recorded one cannot be drawn anew: its
counts are, by Poisson's law around what was recorded.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.cli.simulate.loads import BURSTY_CV, Load
from dynawatt.forecast.slots import SLOT_S, WEEK_SLOTS, Calendar
from dynawatt.simulation.slots.load import SlotLoad, bin_load, slot_edges_s
from dynawatt.simulation.study import History, Study
from dynawatt.workload.builtin import BuiltInWorkload
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.drawn_counts import drawn_counts
from dynawatt.workload.streaming import CHUNK_S
from dynawatt.workload.trace import Trace, joined

_LEVEL_THEN: Final = 0.9
"""The week before, relative to the load."""
_OTHER_SEED: Final = 7_919
"""Added to the load's seed for the week before."""
_SUNDAY: Final = Calendar(86400.0)
"""Weeks that begin on a Sunday: the next Monday is a day later."""
_THURSDAY_BEFORE: Final = Calendar(3 * 86400.0)
_CALENDARS: Final = {"azure-2024-conv": _SUNDAY, "azure-2024-code": _THURSDAY_BEFORE}


def calendar_of(workload: str) -> Calendar:
    """Where weekdays lie in a workload's time; a load of unknown date begins on a Monday."""
    return _CALENDARS.get(workload, Calendar(0.0))


@dataclass(frozen=True, slots=True, eq=False)
class LoadCounts:
    """What one pass over a load tells."""

    slots: SlotLoad
    busiest: Trace | None
    """Requests of the hour with the most of them, from its first one on; None of an empty load."""

    @property
    def future(self) -> History:
        """For whoever may know it: the rates, but no burst."""
        return History(0.0, self.slots.served)


def count_load(load: Load, classes: LengthClasses) -> LoadCounts:
    """Draw or read a load once."""
    hour = _BusiestHour()
    slots = bin_load(hour.watched(load.chunks()), load.horizon_s, classes)
    workload = load.workload
    # Surfaces know such bursts, and must not be read at loads that have them once more. Of a recorded load nobody knows
    # the rates.
    if isinstance(workload, BuiltInWorkload) and workload.interarrival_cv > BURSTY_CV:
        expected = workload.expected_by(slot_edges_s(load.horizon_s), load.rate_scale, load.scale_mode)
        slots = slots.without_bursts(np.diff(expected))
    return LoadCounts(slots, hour.from_its_first())


@dataclass(slots=True, eq=False)
class _BusiestHour:
    """Keeps the requests of one hour of a load. A dense hour comes in several chunks."""

    _requests: int = 0
    _busiest: list[Trace] = field(default_factory=list)
    _number: float = -1.0
    _present: list[Trace] = field(default_factory=list)

    def watched(self, chunks: Iterable[Trace]) -> Iterator[Trace]:
        """The same chunks."""
        for chunk in chunks:
            if len(chunk):
                self._add(chunk)
            yield chunk

    def from_its_first(self) -> Trace | None:
        """The requests of the hour, the first at time 0; None when there are none."""
        if not self._busiest:
            return None
        found = joined(self._busiest)
        return Trace(found.arrival_s - found.arrival_s[0], found.input_tokens, found.output_tokens)

    def _add(self, chunk: Trace) -> None:
        number = chunk.arrival_s[0] // CHUNK_S
        if number != self._number:
            self._number, self._present = number, []
        self._present.append(chunk)
        requests = sum(len(each) for each in self._present)
        if requests > self._requests:
            self._requests, self._busiest = requests, self._present


def week_before(load: Load, counts: LoadCounts, study: Study) -> History:
    """What learners know, whatever part of the workload is simulated; ``counts`` are those of that part."""
    seed = load.seed + _OTHER_SEED
    whole = replace(load, hours=None)
    workload = load.workload
    if isinstance(workload, BuiltInWorkload):
        edges_s = slot_edges_s(whole.end_s)
        drawn = drawn_counts(workload, edges_s, seed=seed, rate_scale=load.rate_scale, scale_mode=load.scale_mode)
        classes = np.random.default_rng(seed).multinomial(drawn, study.class_shares)
        return _again_and_again(_LEVEL_THEN * classes, whole.end_s)
    if load.hours is not None:
        counts = count_load(whole, study.classes)
    again = _again_and_again(_LEVEL_THEN * counts.slots.requests, whole.end_s)
    return replace(again, requests=np.random.default_rng(seed).poisson(again.requests).astype(np.float64))


def _again_and_again(requests: NDArray[np.floating], end_s: float) -> History:
    """The week up to time 0, filled with this span; a slot lies a whole number of spans after the week's start."""
    last = end_s / SLOT_S - (len(requests) - 1)
    if len(requests) > 1 and last < 1 - 1e-9:
        # The last slot is not a whole one: its rate counts, unless it is too short to tell.
        requests = np.concatenate([requests[:-1], requests[-1:] / last if last >= 0.5 else requests[:0]])
    return History(-WEEK_SLOTS * SLOT_S, np.asarray(requests[np.arange(WEEK_SLOTS) % len(requests)], np.float64))
