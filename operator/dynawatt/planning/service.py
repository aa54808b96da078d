"""What a plan of replicas, shapes and clocks is made from and what it says: plain data between planner and drivers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isnan
from typing import Final

from dynawatt.planning.curves import ShapeCurve
from dynawatt.planning.demand import DemandForecast

STEADY: Final = "Steady"
GROW_FOR_LOAD: Final = "GrowForLoad"
SHRINK_TO_LOAD: Final = "ShrinkToLoad"
RESHAPE_FOR_ENERGY: Final = "ReshapeForEnergy"
SLO_UNREACHABLE: Final = "SLOUnreachable"
"""No fleet that is allowed and fits carries the load; the plan comes as near as can be."""
MINIMUM_UNREACHABLE: Final = "MinimumUnreachable"
"""The inventory does not hold the fewest replicas that are wanted."""
CANNOT_PLAN: Final = "CannotPlan"
"""The state makes no sense; the message says why, and everything stays as it is."""
BECAUSE: Final = ", because "
"""Begins the end of a plan's message that says why its clock could not be chosen; no other message has it."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Equal replicas."""

    shape: str
    replicas: int


@dataclass(frozen=True, slots=True)
class FixedClock:
    """One clock for all replicas, which nobody can choose."""

    clock_mhz: float = inf
    """As ``ShapeCurve.at_clock`` takes it: by default the default clock."""
    because: str = field(default="", compare=False)
    """Why it is so although the user wants clocks to be chosen; empty where the user does not."""

    def limited(self, curves: Mapping[str, ShapeCurve]) -> dict[str, ShapeCurve]:
        """Curves by shape with that clock alone."""
        return {name: curve.at_clock(self.clock_mhz) for name, curve in curves.items()}


@dataclass(frozen=True, slots=True, eq=False)
class ServiceState:
    """One service as the planner sees it. Nothing is checked: a state that makes no sense gets a plan that says so."""

    curves: Mapping[str, ShapeCurve]
    """By name of the shape: all that replicas may be, those that are there included."""
    ready: Mapping[str, int]
    """Replicas that serve, by shape; without those that drain."""
    starting: Mapping[str, int]
    """Replicas that are to serve once they have started, by shape."""
    demand: DemandForecast
    present_rps: float
    """Arrival rate to be ready for at once."""
    min_replicas: int = 1
    max_replicas: int = 1_000_000
    max_gpus: int | None = None
    """Most GPUs at any instant, those of a fleet that is being replaced included."""
    attainment: float = 0.99
    """Fraction of requests, and of gaps, that must be within the objectives; the curves already heed it."""
    may_scale: bool = True
    may_reshape: bool = True
    fixed_clock: FixedClock | None = None
    """The only clock that there is; None where clocks are chosen."""
    since_change_s: float = inf
    """Since replicas or shapes were last changed."""
    goal: Fleet | None = None
    """What a change of shape that is under way leads to; None while there is none."""
    nodes: frozenset[str] | None = None
    """Names of those that its replicas may use; None for all."""

    @property
    def usable_curves(self) -> Mapping[str, ShapeCurve]:
        """``curves`` without the clocks that replicas cannot have."""
        return self.curves if self.fixed_clock is None else self.fixed_clock.limited(self.curves)


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """What was considered instead, and why it lost."""

    shape: str
    replicas: int
    clock_mhz: int
    power_w: float
    """Under the demand expected now."""
    why_not: str


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """The decision for one service."""

    shape: str
    """All replicas are to be of it, once it has started; empty where there is none to choose."""
    replicas: int
    clock_mhz: int
    """Least-watt clock of these replicas under the demand expected now."""
    clock_now_mhz: Mapping[str, int]
    """The same for replicas that are Ready now, by shape, under the present load."""
    clock_message: str
    """Why that clock, in a sentence."""
    clock_floor_mhz: int
    clock_ceiling_mhz: int
    """Between these a governor may choose."""
    schedule: Sequence[Fleet]
    """What is to be there, or starting, by slot."""
    open_replicas: int
    """How many of them are to serve, the others parked at the lowest clock; all where the planner does not pack."""
    power_w: float
    """Of the planned fleet under the demand expected now."""
    energy_j: float
    """Of all GPUs held over the horizon, start-ups included."""
    saving_to_keeping: float
    """Fraction of the energy that the present fleet would need, kept as it is for the whole horizon."""
    saving_to_default_clock: float
    """The same relative to the planned fleets at the default clock."""
    feasible: bool
    """Whether the load to be ready for is carried in every slot from when a replica started now is Ready."""
    carried: float
    """Least part of that load that is carried within the SLO, over the same slots: 1 when feasible."""
    reason: str
    """CamelCase, as conditions and Events take it."""
    message: str
    runners_up: Sequence[RunnerUp] = field(default_factory=tuple)
    wanted: Fleet | None = None
    """What would have been decided if replicas of it had room; None where room is not what is missing."""


def unusable(state: ServiceState, slots: int, slot_s: float) -> str | None:
    """What makes no sense in a state, in a clause; None for a state that can be planned for.

    Args:
        state: To look at.
        slots: Slots that all forecasts must have.
        slot_s: Their width.
    """
    demand, least, most = state.demand, state.min_replicas, state.max_replicas
    found = (len(demand.expected_rps), demand.slot_s)
    there = [*state.ready.items(), *state.starting.items()]
    unknown = sorted({name for name, count in there if count and name not in state.curves})
    fewest = min((count for _, count in there), default=0)
    senseless = {
        "no shape has a latency model": not state.curves,
        f"present load of {state.present_rps} req/s: must be 0 or more": not 0 <= state.present_rps < inf,
        f"forecast of {found[0]} slots of {found[1]:g} s: {slots} of {slot_s:g} s are planned": found
        != (slots, slot_s),
        f"{fewest} replicas are there: must be 0 or more": fewest < 0,
        f"{least} to {most} replicas: the least must be 0 or more and not above the most": not 0 <= least <= most,
        f"at most {state.max_gpus} GPUs: must be 0 or more": state.max_gpus is not None and state.max_gpus < 0,
        "the time since the last change is NaN": isnan(state.since_change_s),
        f"replicas of {', '.join(unknown)} are there, which has no latency model": bool(unknown),
    }
    return next((clause for clause, is_so in senseless.items() if is_so), None)
