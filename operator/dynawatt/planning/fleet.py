"""Chooses replicas x clock with the fewest predicted watts that meet the SLO.

Every combination is looked at: a service has at most a few hundred. GPUs that a
smaller fleet releases are charged at idle, so a replica costs what it draws
beyond that. Growing also costs the energy of loading, spread over the horizon,
and leaving a feasible state must be worth a minimum saving: both keep
the plan from swinging.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dynawatt.planning.plan import OperatingPoint, RunnerUp, ServicePlan, ServiceState, planned_attainment

_RUNNERS_UP = 3


@dataclass(frozen=True, slots=True)
class FleetPlanner:
    """Pure and stateless: the same states give the same plans."""

    horizon_s: float = 600.0
    """Time over which the energy of starting a replica is spread."""
    minimum_saving: float = 0.03
    """Fraction of the current power below which a feasible replica count is kept."""
    spare_budget: float = 0.35
    """Fraction of the error budget left unplanned: a 99 % objective is planned at 99.35 %."""

    def plan(self, states: Mapping[str, ServiceState]) -> dict[str, ServicePlan]:
        """Decide for every service; the keys are kept."""
        return {name: self._plan_one(state) for name, state in states.items()}

    def planned_attainment(self, attainment: float) -> float:
        """Attainment to plan for, so that an SLO of ``attainment`` is kept."""
        return planned_attainment(attainment, self.spare_budget)

    def _plan_one(self, state: ServiceState) -> ServicePlan:
        counts = self._replica_counts(state)
        best = {count: self._best_clock(state, count) for count in counts}
        chosen = min(best.values(), key=lambda point: self._rank(state, point))
        if chosen.replicas < state.desired_replicas and state.lasting_demand_rps > state.demand_rps:
            chosen = best.get(self._replicas_to_keep(state, counts), chosen)
        reason, message = self._explain(state, chosen)
        current = best.get(state.desired_replicas)
        if current and current.feasible and chosen.feasible and chosen.replicas != current.replicas:
            saved = 1 - self._cost_w(state, chosen) / max(self._cost_w(state, current), 1e-9)
            if saved < self.minimum_saving:
                chosen, reason, message = current, "Steady", f"a change would save only {max(saved, 0):.1%} of power"
        clock_now_mhz, clock_message = self._clock_now(state, chosen)
        return ServicePlan(
            chosen=chosen,
            clock_now_mhz=clock_now_mhz,
            clock_message=clock_message,
            runners_up=self._runners_up(state, chosen, best),
            reason=reason,
            message=message,
        )

    def _replicas_to_keep(self, state: ServiceState, counts: Sequence[int]) -> int:
        """Never above the present count: what the demand of the last minutes would have."""
        lasting = replace(state, demand_rps=state.lasting_demand_rps)
        best = min((self._best_clock(lasting, count) for count in counts), key=lambda point: self._rank(lasting, point))
        return min(best.replicas, state.desired_replicas)

    def _replica_counts(self, state: ServiceState) -> list[int]:
        if not state.may_scale:
            return [max(1, state.desired_replicas)]
        return list(range(state.min_replicas, state.max_replicas + 1))

    def _best_clock(self, state: ServiceState, replicas: int) -> OperatingPoint:
        points = [self._point(state, replicas, clock) for clock in self._clocks(state)]
        return min(points, key=lambda point: self._rank(state, point))

    @staticmethod
    def _clocks(state: ServiceState) -> list[int]:
        clocks = state.surface.clocks_mhz
        return clocks if state.may_set_clock else clocks[-1:]

    def _point(self, state: ServiceState, replicas: int, clock_mhz: int) -> OperatingPoint:
        rate_rps = state.demand_rps / replicas
        point = state.surface.at(clock_mhz, rate_rps, replicas)
        return OperatingPoint(
            replicas=replicas,
            clock_mhz=clock_mhz,
            power_w=replicas * point.power_w,
            attainment=point.attainment,
            feasible=rate_rps <= state.surface.capacity_rps(clock_mhz, self._wanted(state), replicas),
        )

    def _wanted(self, state: ServiceState) -> float:
        return self.planned_attainment(state.attainment)

    def _cost_w(self, state: ServiceState, point: OperatingPoint) -> float:
        """Watts beyond an idle inventory, with the energy of starting replicas spread over the horizon."""
        surface = state.surface
        gpus = point.replicas * surface.tensor_parallel
        started_gpus = max(0, point.replicas - state.desired_replicas) * surface.tensor_parallel
        loading_j = started_gpus * (surface.loaded_idle_w - surface.released_w) * state.startup_s
        return point.power_w - gpus * surface.released_w + loading_j / self.horizon_s

    def _rank(self, state: ServiceState, point: OperatingPoint) -> tuple[bool, float, float]:
        """Feasible before infeasible; then the fewest watts, or among the infeasible the fastest."""
        if point.feasible:
            return (False, 0.0, self._cost_w(state, point))
        return (True, -float(point.replicas * point.clock_mhz), 0.0)

    def _clock_now(self, state: ServiceState, chosen: OperatingPoint) -> tuple[int, str]:
        """The clock follows the present demand on the replicas that serve; only replicas must be there ahead of it."""
        serving = min(state.ready_replicas, chosen.replicas) or chosen.replicas
        present = self._best_clock(replace(state, demand_rps=state.present_demand_rps), serving)
        need = "needs the fewest watts" if present.feasible else "is the fastest there is"
        message = f"{state.present_demand_rps:.1f} req/s on {serving} serving replicas: {present.clock_mhz} MHz {need}"
        return present.clock_mhz, message

    @staticmethod
    def _explain(state: ServiceState, chosen: OperatingPoint) -> tuple[str, str]:
        load = f"{state.demand_rps:.1f} req/s to be ready for"
        if not chosen.feasible:
            return "SLOUnreachable", f"{load}: no allowed replicas and clock meet the SLO, the fastest is taken"
        if chosen.replicas > state.desired_replicas:
            return "GrowForLoad", f"{load}: {chosen.replicas} replicas at {chosen.clock_mhz} MHz need the fewest watts"
        if chosen.replicas < state.desired_replicas:
            return "ShrinkToLoad", f"{load}: {chosen.replicas} replicas at {chosen.clock_mhz} MHz need the fewest watts"
        return "Steady", f"{load}: {chosen.replicas} replicas stay, {chosen.clock_mhz} MHz needs the fewest watts"

    def _runners_up(
        self, state: ServiceState, chosen: OperatingPoint, best: Mapping[int, OperatingPoint]
    ) -> list[RunnerUp]:
        """The best of every other replica count, and the chosen count at the default clock."""
        default_clock = state.surface.clocks_mhz[-1]
        others = [point for count, point in best.items() if count != chosen.replicas]
        if chosen.clock_mhz != default_clock:
            others.append(self._point(state, chosen.replicas, default_clock))
        others.sort(key=lambda point: (abs(point.replicas - chosen.replicas) > 1, self._rank(state, point)))
        return [RunnerUp(point, self._why_not(state, chosen, point)) for point in others[:_RUNNERS_UP]]

    def _why_not(self, state: ServiceState, chosen: OperatingPoint, point: OperatingPoint) -> str:
        if not point.feasible:
            return f"would reach {point.attainment:.1%} of requests within the SLO, {self._wanted(state):.1%} planned"
        more_w = self._cost_w(state, point) - self._cost_w(state, chosen)
        if more_w < 0 and point.replicas < chosen.replicas and state.lasting_demand_rps > state.demand_rps:
            lasting = f"{state.lasting_demand_rps:.1f} req/s to be ready for"
            return f"{-more_w:.0f} W less, but the last minutes had {lasting}"
        if more_w < 0:
            return f"{-more_w:.0f} W less, not worth the change"
        return f"{more_w:.0f} W more"
