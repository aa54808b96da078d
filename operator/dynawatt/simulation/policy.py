"""What steers a simulated fleet: what a policy sees, and what it may ask for.

A policy plans slowly (how many replicas of which shape in which pool) and may
govern quickly (the clock of each replica), or leave the clocks of a group to
governors, as a claim does live. Its routing is data: which pools may serve which
request class, what share each gets, and how many replicas of a group are open.
It never changes the fleet itself; the driver carries its plans out, with start-up
times, drains and node packing. The same policy runs at both fidelities: iteration
by iteration, or on surfaces slot by slot.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dynawatt.governing.table import GovernorTable
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaShape
from dynawatt.simulation.tally import Tally


class Group(NamedTuple):
    """Replicas that a plan does not tell apart."""

    shape: int
    """Position in the policy's shapes."""
    pool: int = 0


@dataclass(frozen=True, slots=True)
class Governed:
    """Leave clocks to governors, one per replica, within a range: a claim."""

    table: GovernorTable
    floor_mhz: int
    ceiling_mhz: int


@dataclass(frozen=True, slots=True, eq=False)
class FleetPlan:
    """What a policy wants from now on. What it does not name stays as it is."""

    replicas: Mapping[Group, int] | None = None
    """Replicas that start up or serve; groups that are not named shall have none. None leaves the replicas alone."""
    clocks_mhz: Mapping[Group, float] = field(default_factory=dict)
    """Fixed clocks of groups; replicas begin at the default clock."""
    governed: Mapping[Group, Governed] = field(default_factory=dict)
    """Groups whose clocks governors set from now on, until a fixed clock ends it."""
    open_replicas: Mapping[Group, int] = field(default_factory=dict)
    """How many serving replicas of a group, the oldest first, get new requests; the others stay loaded. All do at
    first. Where every open one is gone, others are opened."""
    shares: NDArray[np.float64] | None = None
    """[pool, class]: what part of a predicted class's requests goes to each pool; columns sum to 1. Until there are
    any, a request goes to the least loaded replica of all pools that may serve it."""


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

    def reroute_waiting(self, replica: int) -> int:
        """Move its requests that no iteration has worked on to shorter queues; how many there were."""
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
    def pool_classes(self) -> Sequence[tuple[int, ...]]:
        """The classes that each pool is there for; their mix decides what its replicas do at slot fidelity."""
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
