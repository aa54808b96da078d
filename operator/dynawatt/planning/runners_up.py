"""What else a service could have been decided for, and why it lost."""

from dataclasses import dataclass

import numpy as np

from dynawatt.planning.clocks import fleet_clock
from dynawatt.planning.course import Course
from dynawatt.planning.curves import Numbers
from dynawatt.planning.fleet_costs import CostRules
from dynawatt.planning.options import least
from dynawatt.planning.present import ChangeRules, Present, threshold_j
from dynawatt.planning.service import RunnerUp
from dynawatt.quantities import S_PER_HOUR


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """One service, and what was decided for it."""

    present: Present
    course: Course
    costs_j: Numbers
    """Of every decision for now if GPUs cost nothing, [shape, replicas]."""
    costs: CostRules
    changes: ChangeRules

    @property
    def fleet(self) -> tuple[int, int]:
        """Shape and count."""
        first = self.course.steps[0]
        return first.shape, first.replicas

    @property
    def horizon_s(self) -> float:
        """Length of the horizon."""
        return self.present.own.slots * self.present.own.slot_s

    @property
    def horizon(self) -> str:
        """The same in words."""
        return f"{self.horizon_s / S_PER_HOUR:.2g} h"

    def more_w(self, fleet: tuple[int, int]) -> float:
        """Mean watts over the horizon of another decision, beyond those of this one."""
        return float((self.costs_j[fleet] - self.costs_j[self.fleet]) / self.horizon_s)


def runners_up(decided: Decided) -> list[RunnerUp]:
    """The best other count, the best other shape, and the decision at the default clock, where there are any."""
    one, costs_j = decided.present.own.service, decided.costs_j
    names = list(one.state.curves)
    shape, replicas = decided.fleet
    curve, rate_rps = one.curves[shape], float(one.expected_rps[0])
    same_shape = np.arange(len(costs_j))[:, None] == shape
    other_count = same_shape & (decided.present.own.counts != replicas)
    bests = [least(kept_j) for kind in (other_count, ~same_shape) if np.isfinite(kept_j := _only(costs_j, kind)).any()]
    others = []
    for fleet in bests:
        clock = fleet_clock(one.curves[fleet[0]], fleet[1], rate_rps, decided.costs)
        others.append(RunnerUp(names[fleet[0]], fleet[1], clock.clock_mhz, clock.power_w, _why_not(decided, fleet)))
    chosen, default_mhz = fleet_clock(curve, replicas, rate_rps, decided.costs), curve.clocks_mhz[-1]
    if chosen.clock_mhz != default_mhz:
        power_w = float(curve.clock_power_w(replicas, rate_rps, default_mhz))
        others.append(
            RunnerUp(names[shape], replicas, default_mhz, power_w, f"{power_w - chosen.power_w:.0f} W more now")
        )
    return others


def _only(costs_j: Numbers, kind: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Numbers:
    return np.where(kind, costs_j, np.inf)


def _why_not(decided: Decided, fleet: tuple[int, int]) -> str:
    present, own, one = decided.present, decided.present.own, decided.present.own.service
    shape, replicas = fleet
    capacity_rps, chosen_rps = float(own.capacity_rps[fleet]), float(own.capacity_rps[decided.fleet])
    near_rps = float(one.high_rps[: int(own.lead_slots[shape]) + 1].max())
    needed, gpus = int(present.started[fleet]), one.curves[shape].gpus
    more_w = decided.more_w(fleet)
    reasons = {
        f"fewer than {one.state.min_replicas} replicas": replicas < one.state.min_replicas,
        f"carries {capacity_rps:.1f} of {near_rps:.1f} req/s within the SLO": capacity_rps < min(near_rps, chosen_rps),
        f"{needed} more of {gpus} GPUs each do not fit beside what runs": not present.fits[fleet],
        "replicas are starting: until they are Ready, only more of them are added": (
            not present.allowed[fleet] and one.starting.any()
        ),
        f"the last change was {one.state.since_change_s:.0f} s ago and capacity is not short": (
            not present.allowed[fleet]
        ),
        f"would be short of capacity within {decided.horizon}": more_w * decided.horizon_s > own.charge.base_w,
        f"{more_w:.0f} W more over {decided.horizon}": more_w >= 0,
        f"{-more_w:.0f} W less, but other services need the GPUs more": _lost_to_others(decided, fleet),
    }
    found = (reason for reason, holds in reasons.items() if holds)
    return next(found, f"{-more_w:.0f} W less over {decided.horizon}, not worth the change")


def _lost_to_others(decided: Decided, fleet: tuple[int, int]) -> bool:
    """Whether the service would have decided otherwise if GPUs cost nothing."""
    decided_j = decided.costs_j + threshold_j(decided.present, decided.changes)
    return bool(decided_j[fleet] < decided_j[decided.fleet])
