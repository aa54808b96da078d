"""Makes plans that say what was chosen, why, and what it saves."""

from math import isinf

import numpy as np

from dynawatt.planning import service
from dynawatt.planning.clocks import clocks_now, fleet_clock
from dynawatt.planning.course import total_j
from dynawatt.planning.options import least
from dynawatt.planning.present import threshold_j
from dynawatt.planning.runners_up import Decided, runners_up
from dynawatt.planning.service import Fleet, ServicePlan


def explained(decided: Decided) -> ServicePlan:
    """The plan of a decided service."""
    return _Explainer(decided).plan()


class _Explainer:
    def __init__(self, decided: Decided) -> None:
        self.decided = decided
        self.present, self.course = decided.present, decided.course
        self.costs_j, self.costs = decided.costs_j, decided.costs

    def plan(self) -> ServicePlan:
        one = self.present.own.service
        first = self.course.steps[0]
        fleet = (first.shape, first.replicas)
        curve = one.curves[first.shape]
        clock = fleet_clock(curve, first.replicas, float(one.expected_rps[0]), self.costs)
        now_mhz, clock_message = clocks_now(one, fleet, self.costs, pending=bool(self.present.pending[fleet]))
        carried = self._carried()
        reason, message = self._reason(carried, clock.clock_mhz)
        fixed = one.state.fixed_clock
        if fixed is not None and fixed.because:
            which = "the default clock" if isinf(fixed.clock_mhz) else f"{curve.clocks_mhz[-1]} MHz"
            why = f"at {which}{service.BECAUSE}{fixed.because}"
            message, clock_message = f"{message}; {why}", f"{clock_message}; {why}"
        energy_j, to_keeping, to_default = self._energies()
        names = list(one.state.curves)
        return ServicePlan(
            shape=names[first.shape],
            replicas=first.replicas,
            clock_mhz=clock.clock_mhz,
            clock_now_mhz=now_mhz,
            clock_message=clock_message,
            clock_floor_mhz=curve.clocks_mhz[0],
            clock_ceiling_mhz=curve.clocks_mhz[-1],
            schedule=tuple(
                Fleet(names[step.shape], step.replicas)
                for step in self.course.steps
                for _ in range(step.first_slot, step.last_slot)
            ),
            open_replicas=clock.open_replicas,
            power_w=clock.power_w,
            energy_j=energy_j,
            saving_to_keeping=to_keeping,
            saving_to_default_clock=to_default,
            feasible=carried >= 1,
            carried=carried,
            reason=reason,
            message=message,
            runners_up=tuple(runners_up(self.decided)),
            wanted=self._wanted(fleet),
        )

    def _wanted(self, fleet: tuple[int, int]) -> Fleet | None:
        present, own = self.present, self.present.own
        decided_j = self.costs_j + threshold_j(present, self.decided.changes)
        best = least(np.where(own.allowed, decided_j, np.inf))
        if present.fits[best] or own.service.starting.any() or decided_j[best] >= decided_j[fleet]:
            return None
        return Fleet(list(own.service.state.curves)[best[0]], best[1])

    def _carried(self) -> float:
        """Least part of the load to be ready for that is carried, from when a replica started now is Ready."""
        own, one = self.present.own, self.present.own.service
        steps = self.course.steps
        waits = self.present.pending[steps[0].shape, steps[0].replicas]
        capacity_rps, before_rps = np.empty(own.slots), np.inf
        for step in steps:
            after_rps = float(own.capacity_rps[step.shape, step.replicas])
            capacity_rps[step.first_slot : step.last_slot] = min(before_rps, after_rps) if step.started else after_rps
            before_rps = after_rps
        first = min(steps[0].last_slot, own.slots - 1) if waits else 0
        short = capacity_rps < one.high_rps
        short[:first] = False
        return float(np.min(capacity_rps[short] / one.high_rps[short], initial=1.0))

    def _energies(self) -> tuple[float, float, float]:
        """Joules over the horizon, and which fractions are saved to keeping all as it is and to default clocks."""
        present, own, one = self.present, self.present.own, self.present.own.service
        starting_j = [curve.starting_w * curve.startup_s for curve in one.curves]
        drawn_j = total_j(self.course, present, present.serving.drawn_j, own.drawn_j, starting_j)
        net_j = total_j(self.course, present, present.serving.net_j, own.net_j, own.start_j.tolist())
        keeping = present.keeping
        kept_j = float(keeping.net_j[-1]) + float((one.starting * own.start_j).sum())
        to_keeping = (kept_j - net_j) / keeping.drawn_j[-1] if keeping.drawn_j[-1] > 0 else 0.0
        more_j = self._default_clock_j()
        return drawn_j, float(to_keeping), more_j / (drawn_j + more_j) if more_j > 0 else 0.0

    def _default_clock_j(self) -> float:
        """How much more the planned fleets would draw at their default clocks, with no replica parked."""
        own, one = self.present.own, self.present.own.service
        more_j = 0.0
        for shape, replicas in {(step.shape, step.replicas) for step in self.course.steps}:
            curve = one.curves[shape]
            default_w = curve.clock_power_w(replicas, one.expected_rps, curve.clocks_mhz[-1])
            more_w = default_w - np.diff(own.drawn_j[:, shape, replicas]) / own.slot_s
            steps = [step for step in self.course.steps if (step.shape, step.replicas) == (shape, replicas)]
            more_j += own.slot_s * sum(float(more_w[step.first_slot : step.last_slot].sum()) for step in steps)
        return more_j

    def _reason(self, carried: float, clock_mhz: int) -> tuple[str, str]:
        own, one = self.present.own, self.present.own.service
        first = self.course.steps[0]
        have, fewest = int(one.have[first.shape]), one.state.min_replicas
        fleet = f"{first.replicas} x {list(one.state.curves)[first.shape]}"
        load = f"up to {one.high_rps.max():.1f} req/s to be ready for"
        if first.replicas < fewest and one.state.may_scale:
            return service.MINIMUM_UNREACHABLE, f"{fewest} replicas do not fit the GPUs there are, {fleet} do"
        if carried < 1:
            return (
                service.SLO_UNREACHABLE,
                f"{load}: nothing that is allowed and fits carries it; {fleet} carry {carried:.0%}",
            )
        needs = f"{load}: {fleet} at {clock_mhz} MHz need the fewest joules over {self.decided.horizon}"
        if one.have.any() and not have:
            return service.RESHAPE_FOR_ENERGY, needs
        if first.replicas != have:
            return service.GROW_FOR_LOAD if first.replicas > have else service.SHRINK_TO_LOAD, needs
        better_w = self.decided.more_w(least(np.where(own.allowed, self.costs_j, np.inf)))
        if better_w < -0.5:
            return service.STEADY, f"{load}: {fleet} stay; a change would save {-better_w:.0f} W, not enough or not yet"
        return service.STEADY, f"{load}: {fleet} stay, {clock_mhz} MHz needs the fewest watts"
