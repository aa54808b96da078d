"""A load as counts by slot and class, and the week before it.

Whoever learns is given the week before: the same workload drawn with another seed,
its level off by a tenth. A workload shorter than a week is taken to have come again
and again, from the start of that week on. A recorded one cannot be drawn anew: its
counts are, by Poisson's law around what was recorded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.cli.simulate.loads import Load
from dynawatt.forecast.slots import SLOT_S, WEEK_SLOTS, Calendar
from dynawatt.simulation.slots.load import SlotLoad, bin_load
from dynawatt.simulation.study import History, Study
from dynawatt.workload.builtin import BuiltInWorkload
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.drawn_counts import drawn_counts
from dynawatt.workload.trace import Trace

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
    """The chunk with the most requests, from its first one on; None of an empty load."""

    @property
    def future(self) -> History:
        """For whoever may know it."""
        return History(0.0, self.slots.requests.astype(np.float64))


def count_load(load: Load, classes: LengthClasses) -> LoadCounts:
    """Draw or read a load once."""
    busiest: Trace | None = None

    def seen() -> Iterator[Trace]:
        nonlocal busiest
        for chunk in load.chunks():
            if busiest is None or len(chunk) > len(busiest):
                busiest = chunk
            yield chunk

    slots = bin_load(seen(), load.horizon_s, classes)
    return LoadCounts(slots, busiest and _from_its_first(busiest))


def _from_its_first(chunk: Trace) -> Trace | None:
    """The same requests, the first at time 0; None when there are none."""
    return Trace(chunk.arrival_s - chunk.arrival_s[0], chunk.input_tokens, chunk.output_tokens) if len(chunk) else None


def week_before(load: Load, counts: LoadCounts, study: Study) -> History:
    """What learners know, whatever part of the workload is simulated; ``counts`` are those of that part."""
    seed = load.seed + _OTHER_SEED
    whole = replace(load, hours=None)
    workload = load.workload
    if isinstance(workload, BuiltInWorkload):
        edges_s = np.minimum(SLOT_S * np.arange(_slots(whole.end_s) + 1), whole.end_s)
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


def _slots(end_s: float) -> int:
    return max(1, ceil(end_s / SLOT_S - 1e-9))
