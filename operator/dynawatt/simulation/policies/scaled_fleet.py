"""What autoscalers of today have in common: more or fewer of the same replicas, at the default clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaShape, ReplicaState
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policy import FleetPlan, FleetView, Group
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Study
from dynawatt.workload.classes import ALL_CLASSES

_GROUP = Group(shape=0)


@dataclass(slots=True, eq=False)
class ScaledFleet:
    """One shape, one pool; how many replicas is up to subclasses. Raises InvalidInputError when not even one fits.

    It begins as the tuned static fleet: the autoscaler is switched on at time 0.
    """

    name: str
    shape: ReplicaShape
    static_replicas: int
    """Of the tuned static fleet."""
    most_replicas: int
    """Those that the inventory holds."""

    def __post_init__(self) -> None:
        """Check the inventory."""
        if self.most_replicas < 1:
            raise InvalidInputError(f"inventory for {self.name}: holds no replica of {self.shape.replica.name}")

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
    def govern_interval_s(self) -> None:
        """No clock is ever changed."""

    def govern(self, now_s: float, view: FleetView) -> Mapping[int, float]:
        """Leaves every clock as it is."""
        del now_s, view
        return {}

    def initial(self) -> FleetPlan:
        """The tuned static fleet, as far as the inventory goes."""
        return self.of(self.static_replicas)

    def of(self, replicas: int) -> FleetPlan:
        """A fleet of so many replicas, at least one and no more than the inventory holds."""
        return FleetPlan({_GROUP: self.limited(replicas)})

    def limited(self, replicas: int) -> int:
        """The number within its limits."""
        return min(max(1, replicas), self.most_replicas)


def single_shape(study: Study) -> ReplicaShape:
    """The tuned static fleet's shape with requests served in order of arrival, as an untouched vLLM does.

    Raises InvalidInputError when the study has no settings for it.
    """
    if study.single_settings is None:
        raise InvalidInputError("study: has no settings of the tuned static fleet; size that first")
    settings = replace(study.single_settings, queue_order=QueueOrder.FCFS)
    return ReplicaShape(study.profiles[study.tensor_parallel], settings)


def most_replicas(study: Study, shape: ReplicaShape) -> int:
    """Replicas of a shape that the inventory holds; none reaches over two servers."""
    return study.servers * (GPUS_PER_SERVER // shape.replica.tensor_parallel)


def in_service(snapshot: FleetSnapshot) -> int:
    """Replicas that serve or start up: what a Deployment reports as its replicas."""
    return int(np.isin(snapshot.state, (ReplicaState.SERVING, ReplicaState.STARTING)).sum())
