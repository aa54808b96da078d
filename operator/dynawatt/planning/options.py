"""What each service would do at given prices of GPUs: a decision for now and the course after it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dynawatt.planning.commitment import Fleets, Indices, Prices, cheapest_courses
from dynawatt.planning.course import Course, follow, resting, total_j
from dynawatt.planning.curves import Numbers
from dynawatt.planning.present import ChangeRules, Present, first_costs, reshaping_j, threshold_j


@dataclass(frozen=True, slots=True, eq=False)
class Option:
    """One way of a service through the horizon."""

    course: Course
    cost_j: float
    """Beyond that of released GPUs, without prices; a change includes what it has to save."""
    gpus: Indices
    """Most held in each slot, [slot]."""
    started_gpus: int
    """Of each replica that is started now."""
    started: int

    def price_j(self, prices: Prices) -> float:
        """What it pays."""
        return float(self.gpus @ prices.slot_j) + self.started * prices.of_start(self.started_gpus)


@dataclass(frozen=True, slots=True, eq=False)
class Offers:
    """What all services do at some prices; sequences by service."""

    options: Sequence[Option]
    priced_j: Numbers
    """Costs with prices, [service]."""
    costs_j: Sequence[Numbers]
    """Of every decision for now, with prices but without the threshold for changes, [shape, replicas]."""


@dataclass(frozen=True, slots=True, eq=False)
class Choices:
    """Of all services."""

    fleets: Fleets
    presents: Sequence[Present]
    changes: ChangeRules

    def solve(self, prices: Prices) -> "Offers":
        """The cheapest way of each service at these prices."""
        reshape_j = np.array([reshaping_j(present, self.changes) for present in self.presents])
        found = cheapest_courses(self.fleets, self.changes.dwell_slots, prices, reshape_j)
        options, costs, priced = [], [], []
        for row, present in enumerate(self.presents):
            courses = found.of(row, len(present.own.service.curves))
            cost_j = first_costs(present, courses, prices, self.changes)
            decided_j = np.where(present.allowed, cost_j + threshold_j(present, self.changes), np.inf)
            fleet = least(decided_j)
            option = _option(present, follow(present, courses, fleet, self.changes.dwell_slots), 0.0)
            options.append(replace(option, cost_j=float(decided_j[fleet]) - option.price_j(prices)))
            costs.append(cost_j)
            priced.append(decided_j[fleet])
        return Offers(options, np.array(priced), costs)

    def charged_j(self, options: Sequence[Option]) -> float:
        """How much of the cost of all services is for shortages, not for energy."""
        sum_j = 0.0
        for present, option in zip(self.presents, options, strict=True):
            own, starts_j = present.own, present.own.start_j.tolist()
            spent_j = total_j(option.course, present, present.serving.spent_j, own.spent_j, starts_j)
            sum_j += spent_j - total_j(option.course, present, present.serving.net_j, own.net_j, starts_j)
        return sum_j

    def rest(self) -> list[Option]:
        """Ways that start nothing, now or later: they have room together, whatever the prices."""
        return [_rest(present) for present in self.presents]


def least(cost_j: Numbers) -> tuple[int, int]:
    """Shape and count of the cheapest decision."""
    shape, replicas = np.unravel_index(int(cost_j.argmin()), cost_j.shape)
    return int(shape), int(replicas)


def _rest(present: Present) -> Option:
    own, one = present.own, present.own.service
    there = present.started == 0
    fleets = present.allowed & there
    if not fleets.any():
        fleets = there & (own.counts == one.known(one.have)[:, None])
    course = resting(present, least(np.where(fleets, own.spent_j[-1], np.inf)))
    spent_j = total_j(course, present, present.serving.spent_j, own.spent_j, own.start_j.tolist())
    return _option(present, course, spent_j)


def _option(present: Present, course: Course, cost_j: float) -> Option:
    first = course.steps[0]
    gpus = int(present.own.service.gpus[first.shape])
    return Option(course, cost_j, course.gpus, gpus, first.started)
