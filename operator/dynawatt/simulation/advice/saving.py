"""What a course costs, and what it saves against another one, with how sure that is."""

from dataclasses import dataclass
from math import hypot
from typing import Final

import numpy as np

from dynawatt.forecast.slots import Numbers
from dynawatt.simulation.advice.course import Course
from dynawatt.simulation.advice.load import ServiceLoad

_RESAMPLES: Final = 400
_HOUR_SLOTS: Final = 12
_FEWEST_BLOCKS: Final = 24


@dataclass(frozen=True, slots=True)
class Saving:
    """Relative to the user's own configuration; negative where it costs more."""

    share: float
    low: float
    high: float
    """Ends of the band: how wrong the clock axis of the power model may be, and how the saving varies over the load."""


@dataclass(frozen=True, slots=True, eq=False)
class Cost:
    """Of a course, over the time that is known."""

    energy_j: float
    """Of all GPUs of the inventory, those that no pod holds idling."""
    energy_off_j: float
    """The same with released GPUs off."""
    most_gpus: int
    ttft_attainment: float
    """Of all requests."""
    tbt_attainment: float
    worst_attainment: float
    """The lower of both, in the slot where it is lowest."""

    @property
    def attainment(self) -> float:
        """The lower of both."""
        return min(self.ttft_attainment, self.tbt_attainment)


def cost_of(course: Course, load: ServiceLoad, inventory_gpus: int) -> Cost:
    """What a course costs someone who has so many GPUs."""
    known, width_s = load.known, load.width_s
    requests = (load.rate_rps * width_s)[known]
    lower = np.minimum(course.ttft_attainment, course.tbt_attainment)[known]
    return Cost(
        energy_j=float((idling_w(course, inventory_gpus) * width_s)[known].sum()),
        energy_off_j=float((course.power_w * width_s)[known].sum()),
        most_gpus=int(course.gpus.max()),
        ttft_attainment=float(requests @ course.ttft_attainment[known] / requests.sum()),
        tbt_attainment=float(requests @ course.tbt_attainment[known] / requests.sum()),
        worst_attainment=float(lower[requests > 0].min()),
    )


def idling_w(course: Course, inventory_gpus: int) -> Numbers:
    """Watts of the inventory by slot: GPUs that no pod holds idle."""
    released = np.maximum(0, inventory_gpus - course.gpus)
    return np.asarray(course.power_w + released * course.model.shape.replica.released_w)


def saving_of(course: Course, baseline: Course, load: ServiceLoad, inventory_gpus: int) -> Saving:
    """What a course saves against the baseline.

    The power model knows what a lower clock saves to within its profile's ``clock_band``; what else is saved it knows
    from measurements. How the saving varies over the load is told by resampling its hours, or its slots where there
    are few: 95 % of the resampled loads are within the band. The two are independent.
    """
    known, width_s = load.known, load.width_s[load.known]
    before_j = idling_w(baseline, inventory_gpus)[known] * width_s
    after_j = idling_w(course, inventory_gpus)[known] * width_s
    clock_j = float(((course.default_power_w - course.power_w)[known] * width_s).sum())
    share = 1 - float(after_j.sum() / before_j.sum())
    clock_half = abs(course.model.shape.replica.model.power.clock_band * clock_j / float(before_j.sum()))
    low, high = _resampled(before_j, after_j)
    return Saving(share, share - hypot(clock_half, share - low), share + hypot(clock_half, high - share))


def _resampled(before_j: Numbers, after_j: Numbers) -> tuple[float, float]:
    """The middle 95 % of savings over loads made of blocks of this one, drawn at random."""
    length = _HOUR_SLOTS if len(before_j) >= _FEWEST_BLOCKS * _HOUR_SLOTS else 1
    starts = np.arange(0, len(before_j), length)
    before, after = np.add.reduceat(before_j, starts), np.add.reduceat(after_j, starts)
    picks = np.random.default_rng(0).integers(0, len(starts), (_RESAMPLES, len(starts)))
    savings = 1 - after[picks].sum(axis=1) / before[picks].sum(axis=1)
    low, high = np.quantile(savings, [0.025, 0.975])
    share = 1 - float(after.sum() / before.sum())
    return min(share, float(low)), max(share, float(high))
