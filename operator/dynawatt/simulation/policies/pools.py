"""Pools of request classes: which there are, which may serve what, and how load that does not fit spills over.

DynamoLLM (HPCA 2025) keeps a pool per class, nine of them. A pool may serve a class
when neither input nor output of that class is longer than its own: it dominates it.
A class too rare for a pool joins the next larger one, and so does, from moment to
moment, what a pool cannot carry.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.routing.pools import dominates, next_larger
from dynawatt.workload.classes import CLASS_NAMES

Numbers = NDArray[np.float64]

_LARGEST = len(CLASS_NAMES) - 1


@dataclass(frozen=True, slots=True)
class RequestPool:
    """Classes that share replicas."""

    largest: int
    """The class that the pool is named after; it dominates the others."""
    classes: tuple[int, ...]

    @property
    def name(self) -> str:
        """As in ``CLASS_NAMES``."""
        return CLASS_NAMES[self.largest]


def request_pools(loads: Numbers, least: float) -> tuple[RequestPool, ...]:
    """A pool for every class with enough load, ascending; the last one is for LL and may serve all.

    The others are given up, the one with the least load first: each of its classes joins the next larger pool, which is
    the first that dominates it in the order SS, SM, .. LL. Where too little is left for LL alone, the largest of the
    others joins it.

    Args:
        loads: By class.
        least: Load that is worth a pool.

    Raises InvalidInputError when there is no load at all.
    """
    if not loads.sum() > 0:
        raise InvalidInputError("load of all request classes is 0: pools need a load to be made for")
    members = {index: [index] for index in range(_LARGEST + 1)}

    def load(index: int) -> float:
        return float(loads[members[index]].sum())

    while len(members) > 1 and load(smallest := min(members, key=load)) < least:
        given_up = sorted(members)[-2] if smallest == _LARGEST else smallest
        for index in members.pop(given_up):
            members[next(other for other in sorted(members) if dominates(other, index))].append(index)
    return tuple(RequestPool(index, tuple(sorted(members[index]))) for index in sorted(members))


@lru_cache(maxsize=64)
def pools_above(pools: tuple[RequestPool, ...]) -> tuple[int | None, ...]:
    """For each pool the position of the one that takes what it cannot carry, as ``routing.pools`` has it."""
    return tuple(next_larger([pool.classes for pool in pools], row) for row in range(len(pools)))


@dataclass(frozen=True, slots=True, eq=False)
class Spill:
    """Who serves what."""

    shares: Numbers
    """[pool, class]: part of a class's load; columns sum to 1."""
    loads: Numbers
    """[pool, class], in the unit of the loads that were given."""
    capacities: Numbers
    """What each pool carries of such load."""

    @property
    def overload(self) -> float:
        """Load beyond what pools carry; all of it is at the last pool when pools spill over."""
        return float(np.maximum(0.0, self.loads.sum(axis=1) - self.capacities).sum())


def own_shares(pools: Sequence[RequestPool]) -> Numbers:
    """[pool, class]: every pool gets its own classes, and no others."""
    return np.array([[float(each in pool.classes) for each in range(len(CLASS_NAMES))] for pool in pools])


def spill(pools: Sequence[RequestPool], loads: Numbers, capacity: Callable[[int, Numbers], float]) -> Spill:
    """Let every pool take what it carries and push the rest to the next larger one; the last one takes all.

    A pool that carries nothing is passed by even where no load is expected: forecasts are not exact.

    Args:
        pools: As from ``request_pools``.
        loads: By predicted class.
        capacity: What a pool carries, given its position and what it is offered of each class.
    """
    shares = own_shares(pools)
    capacities = np.zeros(len(pools))
    for row, above in enumerate(pools_above(tuple(pools))):
        offered = shares[row] * loads
        capacities[row] = capacity(row, offered)
        if above is None:
            continue
        load = offered.sum()
        kept = float(capacities[row] > 0) if load <= capacities[row] else capacities[row] / load
        shares[above] += (1 - kept) * shares[row]
        shares[row] *= kept
    return Spill(shares, shares * loads, capacities)
