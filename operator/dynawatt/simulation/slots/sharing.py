"""Who gets which part of the load, where arrivals are a stream rather than single requests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_HALVINGS: Final = 40
_NOTHING: Final = 1e-9
"""Requests per second that are none."""


def pool_parts(shares: Numbers | None, eligible: NDArray[np.bool_], capacity_rps: Numbers) -> Numbers:
    """What part of each predicted class's requests goes to each pool, [pool, class]; 0 for a class nobody can take.

    As requests are routed one by one: what a pool without serving replicas is due goes to the other eligible ones, and
    so does everything while there are no shares. Those that take it get their parts by their capacity.

    Args:
        shares: As ``FleetPlan.shares``.
        eligible: Which pools may take a class, [pool, class].
        capacity_rps: Of each pool's replicas that serve; 0 without any.
    """
    able = eligible * capacity_rps[:, None]
    total = able.sum(axis=0)
    by_capacity = able / np.where(total > 0, total, 1.0)
    if shares is None:
        return np.asarray(by_capacity)
    served = shares * (able > 0)
    return np.asarray(served + (1 - served.sum(axis=0)) * by_capacity)


@dataclass(frozen=True, slots=True, eq=False)
class Taker:
    """One of several equal replicas that new requests may go to; rates are in its own pool's requests per second."""

    count: int
    """How many such replicas there are."""
    limit_rps: float
    """What it can serve."""
    queued_rps: float
    """What waits at it, per second of the interval: work that it does beside the new requests."""
    rates_rps: Numbers
    outstanding: Numbers
    """How many requests it has at these rates, both ascending."""

    def taken_rps(self, level: float, interval_s: float) -> float:
        """New requests that it takes when each replica is filled up to this many outstanding ones; rises with them."""
        free = level - self.queued_rps * interval_s / 2
        steady_rps = max(0.0, float(np.interp(free, self.outstanding, self.rates_rps)) - self.queued_rps)
        room_rps = max(0.0, self.limit_rps - self.queued_rps)
        # Beyond what it can serve, they queue up behind those that are left at the end.
        left = max(0.0, self.queued_rps - self.limit_rps) * interval_s
        over = level - float(self.outstanding[-1]) - left
        return min(room_rps, steady_rps) + max(0.0, over) / interval_s


def taken_parts(takers: Sequence[Taker], demands_rps: Sequence[float], interval_s: float) -> list[float]:
    """What part of a pool's new requests each single replica of a kind gets; sums to 1 over all replicas.

    Each request goes to the replica with the fewest outstanding ones: so all have as many at the end.

    Args:
        takers: The pool's replicas, equal ones together.
        demands_rps: The pool's new requests, as each of these kinds counts them.
        interval_s: How long it takes them to come.
    """
    if len(takers) < 2:
        return [1 / taker.count for taker in takers]

    def parts_at(level: float) -> list[float]:
        rows = zip(takers, demands_rps, strict=True)
        return [taker.taken_rps(level, interval_s) / max(demand_rps, _NOTHING) for taker, demand_rps in rows]

    def total(parts: Sequence[float]) -> float:
        return sum(taker.count * part for taker, part in zip(takers, parts, strict=True))

    low, high = 0.0, 1.0
    while total(parts_at(high)) < 1:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if total(parts_at(middle)) >= 1 else (middle, high)
    parts = parts_at(high)
    return [part / total(parts) for part in parts]
