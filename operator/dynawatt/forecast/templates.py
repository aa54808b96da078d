"""Templates: the shape of a day and of a week, relative to the mean, from the counts of the last weeks.

A shape is made robust and then smooth. Robust: of three weeks or more a slot takes
the median; with fewer, a count is kept within a factor of CLIP of what its kind of
day (weekday or weekend) usually has at that time. Smooth: a triangular kernel, whose
width is the one that best predicts each slot from its neighbours alone, so a bursty
service is smoothed over an hour and a steady one hardly at all.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from dynawatt.forecast.slots import DAY_SLOTS, KEPT_WEEKS, WEEK_SLOTS, Numbers, SlotHistory

KINDS: Final = ("flat", "day", "week")
CLIP: Final = 3.0
HALF_WIDTHS: Final = (1, 2, 3, 4, 6, 8, 12)
"""Of the kernel, in slots."""
_LEAST: Final = 0.005
"""No slot of a shape is below this part of the mean: a ratio to it must say something."""


def _flat() -> Numbers:
    return np.ones((len(KINDS), WEEK_SLOTS))


@dataclass(slots=True)
class Templates:
    """Relative load over a week by kind of template; where a kind knows nothing it is the one before it."""

    shapes: Numbers = field(default_factory=_flat)
    """Shape (kinds, WEEK_SLOTS), mean about 1."""

    def ahead(self, slot: int, count: int) -> Numbers:
        """Relative load of ``count`` slots from ``slot`` on, shape (kinds, count)."""
        return self.shapes[:, np.arange(slot, slot + count) % WEEK_SLOTS]


def build_templates(history: SlotHistory, left_out_day: int | None = None) -> Templates:
    """Templates of all counts at hand.

    With ``left_out_day`` (a position in the ring, in days) they are as if the counts of that day were not known, to
    learn from a history how well templates predict: the shape of a day leaves that day out, that of a week each slot's
    own count.
    """
    weeks = history.weeks()
    days = weeks.reshape(KEPT_WEEKS, 7, DAY_SLOTS)
    others = days.copy()
    if left_out_day is not None:
        others.reshape(-1, DAY_SLOTS)[left_out_day] = np.nan
    shapes = _flat()
    shapes[1] = _scaled(_day_shape(others), shapes[0])
    shapes[2] = _scaled(_week_shape(weeks, shapes[1], alone=left_out_day is not None), shapes[1])
    return Templates(shapes)


def _day_shape(days: Numbers) -> Numbers:
    """Weekdays and weekends by their medians; a kind of day that was never seen is as the other. NaN if neither was."""
    kinds = [days[:, :5].reshape(-1, DAY_SLOTS), days[:, 5:].reshape(-1, DAY_SLOTS)]
    weekday, weekend = (_smooth(_median(kind), alone=False) for kind in kinds)
    weekday, weekend = np.where(np.isnan(weekday), weekend, weekday), np.where(np.isnan(weekend), weekday, weekend)
    return np.concatenate([np.tile(weekday, 5), np.tile(weekend, 2)])


def _week_shape(weeks: Numbers, day_shape: Numbers, *, alone: bool) -> Numbers:
    rows = weeks[~np.isnan(weeks).all(axis=1)]
    if not len(rows):
        return np.full(WEEK_SLOTS, np.nan)
    fullest = rows[np.argmax((~np.isnan(rows)).sum(axis=1))]
    # A service grows: every week is brought to the level of one before they are compared.
    rows = np.array([row / _level(row, fullest) for row in rows])
    typical = day_shape * _level(fullest, day_shape)
    few = (~np.isnan(rows)).sum(axis=0) < 3
    rows = np.where(few, np.clip(rows, typical / CLIP, typical * CLIP), rows)
    return _smooth(_median(rows), alone=alone)


def _level(counts: Numbers, reference: Numbers) -> float:
    """Total of the counts over that of the reference, where both are known; 1 where this says nothing."""
    both = ~(np.isnan(counts) | np.isnan(reference))
    mine, its = float(counts[both].sum()), float(reference[both].sum())
    return mine / its if mine > 0 and its > 0 else 1.0


def _median(rows: Numbers) -> Numbers:
    """Per column, of the rows that know it; NaN where none does."""
    if len(rows) == 1:
        return np.asarray(rows[0])
    known = (~np.isnan(rows)).sum(axis=0)
    ordered = np.sort(rows, axis=0)  # NaN comes last
    column = np.arange(rows.shape[1])
    low, high = np.maximum(0, known - 1) // 2, np.minimum(known // 2, len(rows) - 1)
    return np.asarray((ordered[low, column] + ordered[high, column]) / 2)


def _smooth(counts: Numbers, *, alone: bool) -> Numbers:
    """Smoothed around the clock, by the kernel that predicts best; ``alone`` leaves each slot's own count out."""
    known = ~np.isnan(counts)
    if not known.any():
        return counts
    values = np.where(known, counts, 0.0)
    roots = np.sqrt(values)
    found, least = counts, np.inf
    for half_width in HALF_WIDTHS:
        kernel = 1 - np.abs(np.arange(-half_width, half_width + 1)) / (half_width + 1)
        weight, total = _around(known.astype(np.float64), kernel), _around(values, kernel)
        with np.errstate(invalid="ignore", divide="ignore"):
            without = np.where(weight - known > 1e-9, (total - values) / (weight - known), np.nan)
            smooth = np.where(known, total / weight, np.nan)
        told = known & ~np.isnan(without)
        error = np.abs(np.sqrt(np.maximum(0.0, without[told])) - roots[told]).mean() if told.any() else np.inf
        if error < least:
            found, least = (np.where(told, without, smooth) if alone else smooth), error
    return found


def _around(values: Numbers, kernel: Numbers) -> Numbers:
    half = len(kernel) // 2
    return np.asarray(np.convolve(np.concatenate([values[-half:], values, values[:half]]), kernel, mode="valid"))


def _scaled(shape: Numbers, fallback: Numbers) -> Numbers:
    """To a mean of 1, with the fallback in the gaps at the same level."""
    known = ~np.isnan(shape)
    if not known.any() or not shape[known].sum() > 0:
        return fallback
    filled = np.where(known, shape, fallback * _level(shape, fallback))
    filled = filled / filled.mean()
    return np.asarray(np.maximum(filled, _LEAST))
