"""What a plan is made from and what it says: plain data between planner and drivers."""

from collections.abc import Sequence
from dataclasses import dataclass

from dynawatt.perfmodel.surface import Surface


def planned_attainment(attainment: float, spare_budget: float) -> float:
    """Attainment to plan for, so that an SLO of ``attainment`` is kept: this fraction of its error budget is spared."""
    return attainment + spare_budget * (1 - attainment)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """One service as the planner sees it."""

    surface: Surface
    demand_rps: float
    """Arrival rate to be ready for when replicas that are started now become Ready."""
    present_demand_rps: float
    """Arrival rate to be ready for at once, which is what a clock can still follow."""
    ready_replicas: int
    desired_replicas: int
    min_replicas: int
    max_replicas: int
    attainment: float
    """Fraction of requests, and of gaps, that must be within the objectives."""
    startup_s: float
    """Seconds from creation to Ready of a replica."""
    may_scale: bool = True
    may_set_clock: bool = True
    lasting_demand_rps: float = 0.0
    """The highest ``demand_rps`` of the last minutes: the replicas that it needs are not taken away yet."""


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Replicas at a clock, and what they are predicted to do under the demand."""

    replicas: int
    clock_mhz: int
    power_w: float
    """All GPUs of all replicas."""
    attainment: float
    """The lower one of TTFT and TBT attainment."""
    feasible: bool


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """An operating point that was considered, and why it lost."""

    point: OperatingPoint
    why_not: str


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """The decision for one service."""

    chosen: OperatingPoint
    """Where the service is to be once all replicas are Ready."""
    clock_now_mhz: int
    """Clock for the replicas that are Ready now, under the present demand."""
    clock_message: str
    """Why that clock, in a sentence."""
    runners_up: Sequence[RunnerUp]
    reason: str
    """CamelCase, as conditions and Events take it."""
    message: str

    @property
    def feasible(self) -> bool:
        """Whether the SLO can be met at all."""
        return self.chosen.feasible
