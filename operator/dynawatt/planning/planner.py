"""Chooses shapes, replicas and clocks of all services for the least energy over the horizon."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, isfinite
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.planning.commitment import Prices
from dynawatt.planning.explaining import explained
from dynawatt.planning.fleet_costs import CostRules, gather, service
from dynawatt.planning.groups import grouped, share_nodes
from dynawatt.planning.nodes import left_over
from dynawatt.planning.options import Choices
from dynawatt.planning.present import ChangeRules, look
from dynawatt.planning.runners_up import Decided
from dynawatt.planning.service import CANNOT_PLAN, SLO_UNREACHABLE, Fleet, ServicePlan, ServiceState, unusable
from dynawatt.planning.sharing import GREEDY, MIXED_INTEGER, OPTIMAL, Inventory, Limits, Shared, share

_SLOT_S: Final = 300.0
_WAYS: Final = (OPTIMAL, MIXED_INTEGER, GREEDY)
"""The better ones first."""


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """Plans of all services, and how good they are together."""

    plans: Mapping[str, ServicePlan]
    gap: float
    """Proven: no plan over the same horizon costs less by more than this fraction; infinite where nothing is proven."""
    found_by: str
    """``optimal``, ``mixed-integer`` or ``greedy``."""


@dataclass(frozen=True, slots=True)
class UnitCommitmentPlanner:
    """Pure and stateless: the same states give the same plans. Raises InvalidInputError for senseless settings."""

    packs: bool = False
    """Whether it may count on parking some replicas of a fleet while the others serve."""
    released_power_counts: bool = True
    """Whether GPUs that no pod holds draw power all the same."""
    dwell_s: float = 900.0
    """No change of replicas or shapes comes sooner after another one, unless capacity is short."""
    minimum_saving: float = 0.01
    """Fraction of the present power that a change has to save over waiting for another slot."""
    reshape_saving: float = 0.0
    """Fraction of the energy over the horizon that another shape has to save beyond that."""
    interleaves: bool = False
    """Whether a shape may be changed little by little where there is no room for all of it at once."""
    limits: Limits = field(default_factory=Limits)
    """How long services that compete for GPUs are weighed against each other."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, value in (
            ("dwell", self.dwell_s),
            ("minimum saving", self.minimum_saving),
            ("reshape saving", self.reshape_saving),
        ):
            if not 0 <= value < inf:
                raise InvalidInputError(f"{name} {value} of the planner: must be 0 or more")

    def plan(
        self, states: Mapping[str, ServiceState], free_gpus: Mapping[str, int] | Sequence[int] | None
    ) -> dict[str, ServicePlan]:
        """Decide for every service; the keys are kept.

        Args:
            states: What is there, and what is to be served.
            free_gpus: That no replica holds, by node, with its name where states tell which they may use; None where
                as many can be had as are wanted.
        """
        return dict(self.decide(states, free_gpus).plans)

    def decide(
        self, states: Mapping[str, ServiceState], free_gpus: Mapping[str, int] | Sequence[int] | None
    ) -> Decision:
        """``plan`` together with how good it is."""
        grid = _grid(states)
        refused = {name: clause for name, state in states.items() if (clause := unusable(state, *grid)) is not None}
        usable = {name: state for name, state in states.items() if name not in refused}
        able = {name: state for name, state in usable.items() if _carries(state)}
        plans, gap, found_by = self._solve_groups(able, free_gpus)
        for name, state in states.items():
            if name in refused:
                plans[name] = _kept(state, CANNOT_PLAN, f"{refused[name]}; everything stays as it is")
            elif name not in able:
                message = "no shape meets the objectives under any load; everything stays as it is"
                plans[name] = _kept(state, SLO_UNREACHABLE, message)
        return Decision({name: plans[name] for name in states}, gap, found_by)

    def _solve_groups(
        self, states: Mapping[str, ServiceState], free_gpus: Mapping[str, int] | Sequence[int] | None
    ) -> tuple[dict[str, ServicePlan], float, str]:
        """Plans, and as in ``Decision`` how good they are: of groups that have nodes in common nothing is proven."""
        if not isinstance(free_gpus, Mapping):
            shared, plans = self._solve(states, free_gpus)
            return plans, shared.gap, shared.found_by
        groups, left, plans, found = grouped(states), free_gpus, {}, [Shared([], 0.0, OPTIMAL)]
        for group in groups:
            own = {name: states[name] for name in group.services}
            shared, planned = self._solve(own, list(group.free(left).values()))
            started = [gpus for name, plan in planned.items() for gpus in _started(states[name], plan)]
            left = {**left, **left_over(started, group.free(left))}
            plans |= planned
            found.append(shared)
        gap = inf if share_nodes(groups) else max(one.gap for one in found)
        return plans, gap, max((one.found_by for one in found), key=_WAYS.index)

    def _solve(
        self, states: Mapping[str, ServiceState], free_gpus: Sequence[int] | None
    ) -> tuple[Shared, dict[str, ServicePlan]]:
        if not states:
            return Shared([], 0.0, OPTIMAL), {}
        costs = CostRules(self.packs, self.released_power_counts)
        nodes = None if free_gpus is None else [max(0, int(gpus)) if isfinite(gpus) else 0 for gpus in free_gpus]
        held = sum(service(state, inf).held_gpus for state in states.values())
        total_gpus = inf if nodes is None else sum(nodes) + held
        tables = gather([service(state, total_gpus) for state in states.values()], costs)
        changes = ChangeRules(
            max(1, ceil(self.dwell_s / tables.fleets.slot_s)),
            self.dwell_s,
            self.minimum_saving,
            self.reshape_saving,
            self.interleaves,
        )
        presents = [look(own, costs, changes, nodes) for own in tables.owns]
        choices = Choices(tables.fleets, presents, changes)
        free = choices.solve(Prices.none(tables.fleets.slots))
        shared = Shared(free.options, 0.0, OPTIMAL)
        if nodes is not None and len(states) > 1:
            sizes = [curve.gpus for own in tables.owns for curve in own.service.curves]
            shared = share(choices, free, Inventory(nodes, int(total_gpus), tables.fleets.slots, sizes), self.limits)
        found = zip(states, presents, shared.options, free.costs_j, strict=True)
        return shared, {
            name: explained(Decided(present, option.course, costs_j, costs, changes))
            for name, present, option, costs_j in found
        }


def _grid(states: Mapping[str, ServiceState]) -> tuple[int, float]:
    """Slots of the forecasts, and their width: those of most services, which the others have to have too."""
    found = Counter((len(one.demand.expected_rps), one.demand.slot_s) for one in states.values())
    return found.most_common(1)[0][0] if found else (1, _SLOT_S)


def _started(state: ServiceState, plan: ServicePlan) -> list[int]:
    """GPUs of each replica that is to be started now."""
    there = state.ready.get(plan.shape, 0) + state.starting.get(plan.shape, 0)
    return [state.curves[plan.shape].gpus] * (plan.replicas - there)


def _carries(state: ServiceState) -> bool:
    return any(curve.capacity_rps(curve.most_replicas) > 0 for curve in state.curves.values())


def _kept(state: ServiceState, reason: str, message: str) -> ServicePlan:
    """Everything as it is, at the default clock."""
    there = {name: state.ready.get(name, 0) + state.starting.get(name, 0) for name in {**state.ready, **state.starting}}
    shape = max(there, key=there.__getitem__, default=next(iter(state.curves), ""))
    replicas = max(0, there.get(shape, 0))
    clocks = {name: curve.clocks_mhz for name, curve in state.curves.items()}
    lowest, highest = min(clocks.get(shape, (0,))), max(clocks.get(shape, (0,)))
    return ServicePlan(
        shape=shape,
        replicas=replicas,
        clock_mhz=highest,
        clock_now_mhz={name: clocks[name][-1] for name, count in state.ready.items() if count > 0 and name in clocks},
        clock_message="nothing is planned: the default clock",
        clock_floor_mhz=lowest,
        clock_ceiling_mhz=highest,
        schedule=(Fleet(shape, replicas),) * len(state.demand.expected_rps),
        open_replicas=replicas,
        power_w=0.0,
        energy_j=0.0,
        saving_to_keeping=0.0,
        saving_to_default_clock=0.0,
        feasible=False,
        carried=0.0,
        reason=reason,
        message=message,
    )
