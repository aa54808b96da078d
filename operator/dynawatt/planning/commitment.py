"""Unit commitment by dynamic programming: the cheapest way of any fleet through the horizon.

A fleet is so many equal replicas. At the start of a slot it may stay, shrink at
once, grow, or be replaced by a fleet of another shape; what is started serves
only after its start-up, and until then the old fleet carries the load and, where
it is being replaced, holds its GPUs too. While something starts nothing else
changes, and a fleet that was made smaller stays so for the minimum dwell: such a
step therefore spans several slots. Backwards over the slots, what a fleet costs to
the end is the least over these steps; least values over all larger or all smaller
counts are running minima, so that a slot takes a few array operations for all
services together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dynawatt.planning.curves import Numbers

Indices: TypeAlias = NDArray[np.int_]


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """What GPUs cost beside their energy where services compete for them."""

    slot_j: Numbers
    """Of each GPU that is held in a slot, even if only for a part of it, [slot]."""
    start_j: Mapping[int, float]
    """Of each place for so many GPUs on one node that a start takes now."""

    @classmethod
    def none(cls, slots: int) -> "Prices":
        """All free."""
        return cls(np.zeros(slots), {})

    @property
    def paid_j(self) -> Numbers:
        """For a GPU from now to the start of each slot, and to the end."""
        return np.concatenate([[0.0], np.cumsum(self.slot_j)])

    def of_start(self, gpus: int) -> float:
        """For starting a replica now: a place for 8 GPUs is two for 4."""
        return sum(price_j * (gpus // place) for place, price_j in self.start_j.items())


@dataclass(frozen=True, slots=True, eq=False)
class Fleets:
    """What every fleet of every service would cost; arrays are [service, shape, replicas] unless said otherwise."""

    slot_s: float
    gpus: Indices
    """Of one replica, [service, shape]."""
    startup_s: Numbers
    """[service, shape]."""
    start_j: Numbers
    """Of one replica until it is Ready, [service, shape]; like all costs beyond what its GPUs draw released."""
    most_gpus: Numbers
    """That a service may hold at any instant, [service]; infinite where it is free."""
    allowed: NDArray[np.bool_]
    """Fleets that may be planned."""
    spent_j: Numbers
    """Cost from now to the start of each slot, and to the end, of a fleet that serves all along,
    [slot, service, shape, replicas]; what it cannot carry is charged so that nothing else counts beside it."""

    @property
    def slots(self) -> int:
        """Length of the horizon."""
        return len(self.spent_j) - 1

    @property
    def lead_slots(self) -> Indices:
        """Slots that a step with a start-up spans, [service, shape]."""
        return np.maximum(1, np.ceil(self.startup_s / self.slot_s - 1e-9)).astype(int)

    def spent_until(self, slot: int, after_s: Numbers) -> Numbers:
        """``spent_j`` some seconds after the start of a slot, but not beyond the end; seconds by service."""
        at = np.minimum(slot + after_s / self.slot_s, self.slots)
        whole = np.minimum(at.astype(int), self.slots - 1)
        part = (at - whole)[:, None, None]
        services = np.arange(len(after_s))
        before, after = self.spent_j[whole, services], self.spent_j[whole + 1, services]
        return np.asarray(before + part * (after - before))


@dataclass(frozen=True, slots=True, eq=False)
class Courses:
    """The cheapest course of every fleet from the start of every slot; [slot, service, shape, replicas]."""

    to_go_j: Numbers
    """What it costs to the end, prices included; one row more, for the end."""
    next_fleet: Indices
    """Where the first step leads: shape times the number of counts, plus replicas."""
    next_slot: Indices
    """When it has been made."""

    def of(self, service: int, shapes: int) -> "Courses":
        """Those of one service: the same arrays without that axis, and with no more shapes than it has."""
        own = (slice(None), service, slice(shapes))
        return Courses(self.to_go_j[own], self.next_fleet[own], self.next_slot[own])


def cheapest_courses(fleets: Fleets, dwell_slots: int, prices: Prices, reshape_j: Numbers) -> Courses:
    """Solve all services, each for itself.

    Args:
        fleets: Of all services.
        dwell_slots: How long a fleet that was made smaller stays so, at least 1.
        prices: What GPUs cost beside their energy.
        reshape_j: What a change to another shape has to save, [service].
    """
    return _Solver(fleets, dwell_slots, prices, reshape_j).courses()


class _Solver:
    """Goes backwards over the slots and keeps, for every fleet, the cheapest of all steps."""

    def __init__(self, fleets: Fleets, dwell_slots: int, prices: Prices, reshape_j: Numbers) -> None:
        services, shapes, counts = fleets.allowed.shape
        self._reshape_j = reshape_j[:, None, None]
        self._fleets, self._dwell_slots, self._paid_j = fleets, dwell_slots, prices.paid_j
        self._services, self._counts = np.arange(services), np.arange(counts)
        self._held = fleets.gpus[:, :, None] * self._counts
        self._own = np.arange(shapes * counts).reshape(shapes, counts)
        self._room = [self._room_beside(target) for target in range(shapes)]
        self._to_go_j = np.empty((fleets.slots + 1, *fleets.allowed.shape))
        self._to_go_j[-1] = np.where(fleets.allowed, 0.0, np.inf)
        self._next_fleet = np.zeros((fleets.slots, *fleets.allowed.shape), dtype=np.int32)
        self._next_slot = np.zeros((fleets.slots, *fleets.allowed.shape), dtype=np.int32)

    def courses(self) -> Courses:
        for slot in reversed(range(self._fleets.slots)):
            self._to_go_j[slot] = np.inf
            self._stay(slot)
            self._shrink(slot)
            for target in range(len(self._room)):
                self._start(slot, target)
        return Courses(self._to_go_j, self._next_fleet, self._next_slot)

    def _stay(self, slot: int) -> None:
        self._offer(slot, self._serving_j(slot, slot + 1), self._own, slot + 1)

    def _shrink(self, slot: int) -> None:
        """To fewer replicas of the same shape, at once."""
        until = min(slot + self._dwell_slots, self._fleets.slots)
        least_j, least = least_below(self._serving_j(slot, until))
        self._offer(slot, least_j, least + self._own[:, :1], until)

    def _start(self, slot: int, target: int) -> None:
        """To more replicas of a shape, from fewer of it or from another shape."""
        fleets = self._fleets
        until = np.minimum(slot + fleets.lead_slots[:, target], fleets.slots)
        ready_j = fleets.spent_until(slot, fleets.startup_s[:, target])
        price_j = (self._paid_j[until] - self._paid_j[slot])[:, None]
        each_j = fleets.start_j[:, [target]] + price_j * fleets.gpus[:, [target]]
        # The new fleet, all of it started, from when it is Ready: [service, replicas].
        arrived_j = (
            fleets.spent_j[until, self._services, target]
            - ready_j[:, target]
            + self._counts * each_j
            + self._to_go_j[until, self._services, target]
        )
        # The old fleets until then.
        waited_j = ready_j - fleets.spent_j[slot] + price_j[:, :, None] * self._held
        cost_j, fleet = self._replaced(target, arrived_j)
        cost_j += self._reshape_j
        grown_j, fleet[:, target] = least_above(arrived_j)
        cost_j[:, target] = grown_j - self._counts * each_j
        self._offer(slot, waited_j + cost_j, fleet + self._own[target, 0], until[:, None, None])

    def _replaced(self, target: int, arrived_j: Numbers) -> tuple[Numbers, Indices]:
        """Every fleet by the best of another shape that has room beside it."""
        room = self._room[target]
        least_j, least = least_up_to(arrived_j)
        rows = self._services[:, None, None]
        return np.where(room >= 0, least_j[rows, room], np.inf), least[rows, room]

    def _room_beside(self, target: int) -> Indices:
        """Replicas of a shape that have room beside every fleet; negative where even that has none."""
        fleets = self._fleets
        most = (len(self._counts) * fleets.gpus[:, target])[:, None, None] + self._held
        left = np.minimum(fleets.most_gpus[:, None, None], most) - self._held
        room = np.floor(left / fleets.gpus[:, target][:, None, None]).astype(int)
        return np.asarray(np.maximum(-1, np.minimum(room, len(self._counts) - 1)))

    def _serving_j(self, slot: int, until: int) -> Numbers:
        """Cost of fleets that serve from one slot to another, and of what follows."""
        price_j = self._paid_j[until] - self._paid_j[slot]
        running_j = self._fleets.spent_j[until] - self._fleets.spent_j[slot]
        return np.asarray(running_j + price_j * self._held + self._to_go_j[until])

    def _offer(self, slot: int, cost_j: Numbers, fleet: Indices, until: int | Indices) -> None:
        """Take a step where it is cheaper than those before."""
        better = self._fleets.allowed & (cost_j < self._to_go_j[slot])
        np.copyto(self._to_go_j[slot], cost_j, where=better)
        np.copyto(self._next_fleet[slot], fleet, where=better)
        np.copyto(self._next_slot[slot], until, where=better)


def interpolated(cumulated: Numbers, slot: float) -> Numbers:
    """Values [slot, ...] at any time between two slots."""
    before = min(int(slot), len(cumulated) - 2)
    return np.asarray(cumulated[before] + (slot - before) * (cumulated[before + 1] - cumulated[before]))


def least_up_to(values: Numbers) -> tuple[Numbers, Indices]:
    """Running minimum along the last axis, and where it is."""
    least = np.minimum.accumulate(values, axis=-1)
    where = np.where(values == least, np.arange(values.shape[-1]), 0)
    return least, np.maximum.accumulate(where, axis=-1)


def least_below(values: Numbers) -> tuple[Numbers, Indices]:
    """The least of all values before each, and where it is; infinite for the first."""
    least, where = least_up_to(values)
    below, at = np.full(values.shape, np.inf), np.zeros(values.shape, dtype=int)
    below[..., 1:], at[..., 1:] = least[..., :-1], where[..., :-1]
    return below, at


def least_above(values: Numbers) -> tuple[Numbers, Indices]:
    """The least of all values after each, and where it is; infinite for the last."""
    below, at = least_below(values[..., ::-1])
    return below[..., ::-1].copy(), values.shape[-1] - 1 - at[..., ::-1]
