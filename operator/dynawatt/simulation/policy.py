"""What steers a simulated fleet: what a policy sees, and what it may ask for.

A policy plans slowly (how many replicas of which shape in which pool) and may
govern quickly (the clock of each replica). Its routing is data: which pools may
serve which request class. It never changes the fleet itself; the driver carries
its plans out, with start-up times, drains and node packing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaShape
from dynawatt.simulation.tally import Tally


class Group(NamedTuple):
    """Replicas that a plan does not tell apart."""

    shape: int
    """Position in the policy's shapes."""
    pool: int = 0


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """The fleet a policy wants from now on."""

    replicas: Mapping[Group, int]
    """Replicas that start up or serve; groups that are not named shall have none."""
    clocks_mhz: Mapping[Group, float] = field(default_factory=dict)
    """Clocks of groups; the others keep theirs, and begin at the default clock."""


class FleetView(Protocol):
    """The fleet as a policy sees it. Totals and snapshots are made only when asked for."""

    @property
    def now_s(self) -> float:
        """Virtual time."""
        ...

    @property
    def free_gpus(self) -> Sequence[int]:
        """GPUs that no replica holds, by server."""
        ...

    @property
    def in_transition(self) -> bool:
        """Whether an earlier plan is still being carried out: replicas start up, or some are yet to be drained."""
        ...

    def snapshot(self) -> FleetSnapshot:
        """All replicas as they are now."""
        ...

    def tally(self) -> Tally:
        """Totals since the start; what an interval brought is the difference of two."""
        ...


class Policy(Protocol):
    """Any object like this can run a fleet."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def shapes(self) -> Sequence[ReplicaShape]:
        """All shapes that its plans may use; all on one GPU product."""
        ...

    @property
    def eligible(self) -> NDArray[np.bool_] | None:
        """Which pools may serve which request classes, [pool, class]; None is one pool for all."""
        ...

    @property
    def plan_interval_s(self) -> float | None:
        """How often ``plan`` is asked; None for never."""
        ...

    @property
    def govern_interval_s(self) -> float | None:
        """How often ``govern`` is asked; None for never."""
        ...

    def initial(self) -> FleetPlan:
        """The fleet that serves from the first second on."""
        ...

    def plan(self, now_s: float, view: FleetView) -> FleetPlan | None:
        """The fleet wanted from now on; None leaves everything as it is."""
        ...

    def govern(self, now_s: float, view: FleetView) -> Mapping[int, float]:
        """Clocks in MHz by replica id; replicas that are not named keep theirs."""
        ...
