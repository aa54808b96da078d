"""What most fleets are today: sized for the peak once, at the default clock, and left alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.inventory import servers_for
from dynawatt.simulation.policy import FleetPlan, FleetView, Group
from dynawatt.workload.classes import ALL_CLASSES

SINGLE_POOL: Final = "single-pool"
"""The tuned static fleet: all classes share it, its prefill chunk is chosen by the surfaces. Savings are against it."""
VLLM_DEFAULT: Final = "vllm-default"
"""The same with the prefill chunk that vLLM takes on that GPU when nobody sets one."""
STATIC_PRIORITY: Final = "static-priority"
"""Like single-pool, with its chunk and its size for stock vLLM's priority order, every request's deadline being its
priority."""
STATIC_DEADLINE: Final = "static-deadline"
"""The same for the order that also sets a long prefill aside for an urgent one."""


@dataclass(frozen=True, slots=True)
class FixedFleet:
    """Equal replicas for all classes, from the first second to the last. Raises InvalidInputError without any."""

    name: str
    shape: ReplicaShape
    replicas: int

    def __post_init__(self) -> None:
        """Check the number."""
        if self.replicas < 1:
            raise InvalidInputError(f"{self.replicas} replicas for {self.name}: must be at least 1")

    @property
    def shapes(self) -> Sequence[ReplicaShape]:
        """The only one."""
        return (self.shape,)

    @property
    def eligible(self) -> None:
        """One pool for all classes."""

    @property
    def pool_classes(self) -> Sequence[tuple[int, ...]]:
        """All of them."""
        return (ALL_CLASSES,)

    @property
    def plan_interval_s(self) -> None:
        """Nothing is ever planned."""

    @property
    def servers(self) -> int:
        """Whole servers that the fleet needs."""
        return servers_for(self.replicas, self.shape.replica.tensor_parallel)

    def plan(self, now_s: float, view: FleetView) -> None:
        """Leaves everything as it is."""


@dataclass(frozen=True, slots=True)
class StaticPolicy(FixedFleet):
    """A fixed fleet at a fixed clock."""

    clock_mhz: float

    @property
    def govern_interval_s(self) -> None:
        """No clock is ever changed."""

    def initial(self) -> FleetPlan:
        """The fleet."""
        group = Group(shape=0)
        return FleetPlan({group: self.replicas}, {group: self.clock_mhz})

    def govern(self, now_s: float, view: FleetView) -> Mapping[int, float]:
        """Leaves every clock as it is."""
        del now_s, view
        return {}
