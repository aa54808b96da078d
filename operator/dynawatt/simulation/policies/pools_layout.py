"""Where the replicas of pooled policies stand: a pool of the fleet for every pool of requests and every shape.

So each degree within a pool gets the part of the load that is meant for it, which the
router, seeing only outstanding requests, would not know.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynawatt.routing.pools import eligibility
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.policies.pools import Numbers, RequestPool, Spill, own_shares, spill
from dynawatt.simulation.policies.pools_profile import PoolProfile, ProfileTables
from dynawatt.simulation.policies.pools_split import load_parts
from dynawatt.simulation.policies.pools_steps import Fleet
from dynawatt.simulation.policy import Group
from dynawatt.workload.classes import CLASS_NAMES


@dataclass(frozen=True, slots=True, eq=False)
class PoolLayout:
    """Pools, their shapes, and what is known of them."""

    shapes: Sequence[ReplicaShape]
    """The static fleets' first."""
    tables: ProfileTables
    spills: bool
    """Whether what a pool cannot carry goes to the next larger one."""
    any_clock: bool
    """Whether replicas get the clock with the fewest watts, or all the default one."""

    @property
    def pools(self) -> Sequence[RequestPool]:
        """Of requests, ascending."""
        return self.tables.pools

    @property
    def gpus(self) -> list[int]:
        """Of a replica, by shape."""
        return [shape.replica.tensor_parallel for shape in self.shapes]

    @property
    def eligible(self) -> NDArray[np.bool_]:
        """A pool may serve the classes that it dominates, [fleet pool, class]."""
        return eligibility(self.pool_classes)

    @property
    def pool_classes(self) -> list[tuple[int, ...]]:
        """By fleet pool."""
        return [pool.classes for pool in self.pools for _ in self.shapes]

    def group(self, row: int, shape: int) -> Group:
        """The replicas of a shape in a pool of requests."""
        return Group(shape, row * len(self.shapes) + shape)

    def row(self, fleet_pool: int) -> int:
        """The pool of requests that a pool of the fleet belongs to."""
        return fleet_pool // len(self.shapes)

    def counts(self, row: int, fleet: Fleet) -> list[int]:
        """Replicas of a pool, by shape."""
        return [fleet[self.group(row, shape)] for shape in range(len(self.shapes))]

    def profiles(self, row: int, offered: Numbers) -> list[PoolProfile | None]:
        """Of a pool, by shape, while it is offered this load of each class."""
        return [self.tables.of(row, shape, offered) for shape in range(len(self.shapes))]

    def capacity(self, row: int, offered: Numbers, fleet: Fleet) -> float:
        """Work that a pool's replicas carry."""
        pairs = zip(self.profiles(row, offered), self.counts(row, fleet), strict=True)
        return sum(profile.capacity(count) for profile, count in pairs if profile)

    def spill(self, loads: Numbers, fleet: Fleet) -> Spill:
        """Which pool gets what of these loads by predicted class; without spilling each keeps its own."""

        def capacity(row: int, offered: Numbers) -> float:
            return self.capacity(row, offered, fleet)

        if self.spills:
            return spill(self.pools, loads, capacity)
        shares = own_shares(self.pools)
        offered = shares * loads
        return Spill(shares, offered, np.array([capacity(row, each) for row, each in enumerate(offered)]))

    def shares(self, found: Spill, fleet: Fleet) -> Numbers:
        """[fleet pool, class]: within a pool of requests each shape gets what takes the fewest watts."""
        shares = np.zeros((len(self.pools) * len(self.shapes), len(CLASS_NAMES)))
        for row, of_row in enumerate(found.shares):
            offered = found.loads[row]
            parts = load_parts(
                self.profiles(row, offered), self.counts(row, fleet), float(offered.sum()), any_clock=self.any_clock
            )
            begin = self.group(row, 0).pool
            shares[begin : begin + len(self.shapes)] = parts[:, None] * of_row
        return shares
