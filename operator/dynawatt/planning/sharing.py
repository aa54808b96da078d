"""Services that compete for GPUs: which of their ways through the horizon go together for the least energy.

If the ways that are cheapest for each service alone have room together, they are
the optimum. Else GPUs get prices (Dantzig and Wolfe 1960): a linear program
mixes the ways known so far so that they have room, its dual values are the prices,
and at these every service offers its cheapest way anew. What all of them pay then,
less the price of the inventory, bounds from below what any plan can cost
(Lagrange), so that the plan's distance from the optimum is proven. HiGHS chooses
one way per service at the end, and what it leaves is given away greedily. Ways that
start nothing always have room together; from them a greedy plan begins where the
solver fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from dynawatt.planning.commitment import Prices
from dynawatt.planning.curves import Numbers
from dynawatt.planning.nodes import all_fit, places
from dynawatt.planning.options import Choices, Offers, Option

OPTIMAL: Final = "optimal"
MIXED_INTEGER: Final = "mixed-integer"
GREEDY: Final = "greedy"


_STEADINESS: Final = 0.7
"""How far prices stay with those of the best bound (Wentges 1997): dual values alone jump about for many rounds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop looking for something better."""

    rounds: int = 30
    """Of prices."""
    gap: float = 0.01
    """Distance from the bound that is good enough."""
    time_s: float = 4.0
    """For the mixed-integer program."""


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """One way for each service."""

    options: Sequence[Option]
    gap: float
    """Proven: no plan costs less by more than this fraction. Shortages that no inventory avoids are no cost here."""
    found_by: str
    """``optimal``, ``mixed-integer`` or ``greedy``."""


class Inventory:
    """What ways of all services must have room in: free GPUs by node now, all GPUs later."""

    def __init__(self, free_gpus: Sequence[int], total_gpus: int, slots: int, sizes: Sequence[int]) -> None:
        """GPUs of replicas may be any of these sizes."""
        self._free_gpus, self._slots = free_gpus, slots
        self._sizes = sorted(set(sizes))
        self.limits = np.array([float(total_gpus)] * slots + [float(places(free_gpus, size)) for size in self._sizes])

    def needs(self, option: Option) -> Numbers:
        """Of each limit: GPUs in each slot, then places for each size, which a larger replica takes several of."""
        taken = [option.started * (option.started_gpus // size) for size in self._sizes]
        return np.concatenate([option.gpus, taken]).astype(float)

    def prices(self, values_j: Numbers) -> Prices:
        """Of the limits, as the services see them."""
        return Prices(values_j[: self._slots], dict(zip(self._sizes, values_j[self._slots :].tolist(), strict=True)))

    def total(self, options: Sequence[Option]) -> Numbers:
        """Needs of all."""
        return np.asarray(np.sum([self.needs(option) for option in options], axis=0))

    def holds(self, options: Sequence[Option]) -> bool:
        """Whether all have room together."""
        return bool((self.total(options) <= self.limits).all()) and self.holds_starts(options)

    def holds_starts(self, options: Sequence[Option]) -> bool:
        """Whether what is started now finds nodes."""
        return all_fit((o.started_gpus for o in options for _ in range(o.started)), self._free_gpus)


def share(choices: Choices, free: Offers, inventory: Inventory, limits: Limits) -> Shared:
    """Choose for all services.

    Args:
        choices: What they would do at any prices.
        free: What they would do if GPUs cost nothing.
        inventory: What there must be room in.
        limits: When to stop.
    """
    if inventory.holds(free.options):
        return Shared(free.options, 0.0, OPTIMAL)
    rest = choices.rest()
    pool = _Pool(inventory, [[resting, best] for resting, best in zip(rest, free.options, strict=True)])
    bound_j, unavoidable_j = float(free.priced_j.sum()), choices.charged_j(free.options)
    values_j = np.zeros(len(inventory.limits))
    for _ in range(limits.rounds):
        mixed = pool.mix()
        if mixed is None or mixed[0] - bound_j <= limits.gap / 2 * (mixed[0] - unavoidable_j):
            break
        tried_j = _STEADINESS * values_j + (1 - _STEADINESS) * mixed[1]
        offers = choices.solve(inventory.prices(tried_j))
        pool.add(offers.options)
        found_j = float(offers.priced_j.sum() - tried_j @ inventory.limits)
        if found_j > bound_j:
            bound_j, values_j = found_j, tried_j
    chosen, found_by = pool.choose(limits), MIXED_INTEGER
    if chosen is None or not inventory.holds(chosen):
        chosen, found_by = rest, GREEDY
    chosen = _improved(chosen, pool.options, inventory)
    cost_j = sum(option.cost_j for option in chosen)
    # What rounding makes negative is none.
    gap = max(0.0, cost_j - bound_j) / max(abs(cost_j - unavoidable_j), 1e-9 * abs(cost_j), 1e-9)
    return Shared(chosen, gap, found_by)


class _Pool:
    """Ways of every service that are known so far."""

    def __init__(self, inventory: Inventory, options: list[list[Option]]) -> None:
        self._inventory = inventory
        self.options = options

    def add(self, offers: Sequence[Option]) -> None:
        for known, offer in zip(self.options, offers, strict=True):
            if not any(offer.course.steps == other.course.steps for other in known):
                known.append(offer)

    def mix(self) -> tuple[float, Numbers] | None:
        """Cost of the cheapest mixture that has room, and the value of one more unit of each limit."""
        cost, needs, one_each, unit_j, base_j = self._program()
        found = linprog(
            cost,
            A_ub=needs,
            b_ub=self._inventory.limits,
            A_eq=one_each,
            b_eq=np.ones(len(self.options)),
            method="highs",
        )
        if found.x is None:
            return None
        return float(found.fun) * unit_j + base_j, np.maximum(0.0, -found.ineqlin.marginals) * unit_j

    def choose(self, limits: Limits) -> list[Option] | None:
        """One way per service; None when HiGHS finds none in time."""
        cost, needs, one_each, _, _ = self._program()
        found = milp(
            cost,
            integrality=np.ones(len(cost)),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(needs, -np.inf, self._inventory.limits),
                LinearConstraint(one_each, 1, 1),
            ],
            options={"time_limit": limits.time_s, "mip_rel_gap": limits.gap / 2},
        )
        if found.x is None:
            return None
        chosen, start = [], 0
        for known in self.options:
            chosen.append(known[int(found.x[start : start + len(known)].argmax())])
            start += len(known)
        return chosen

    def _program(self) -> tuple[Numbers, csr_array, csr_array, float, float]:
        """Costs, what each way needs, and which service it is of; costs count from each service's cheapest way."""
        base_j = [min(option.cost_j for option in known) for known in self.options]
        above_j = np.array([o.cost_j - base for known, base in zip(self.options, base_j, strict=True) for o in known])
        unit_j = max(1.0, float(np.median(np.abs(base_j))))
        needs = np.array([self._inventory.needs(option) for known in self.options for option in known]).T
        owner = np.repeat(np.arange(len(self.options)), [len(known) for known in self.options])
        one_each = csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))))
        return above_j / unit_j, csr_array(needs), one_each, unit_j, float(sum(base_j))


def _improved(start: Sequence[Option], known: Sequence[Sequence[Option]], inventory: Inventory) -> list[Option]:
    """Better ways of single services, what saves most first, as long as there is room."""
    chosen, needs = list(start), inventory.total(start)
    wishes = [
        (start[row].cost_j - option.cost_j, -row, option)
        for row, options in enumerate(known)
        for option in options
        if option.cost_j < start[row].cost_j
    ]
    for _, minus_row, option in sorted(wishes, key=lambda wish: wish[:2], reverse=True):
        row = -minus_row
        if option.cost_j >= chosen[row].cost_j:
            continue
        after = needs - inventory.needs(chosen[row]) + inventory.needs(option)
        tried = [*chosen[:row], option, *chosen[row + 1 :]]
        if (after <= inventory.limits).all() and (not option.started or inventory.holds_starts(tried)):
            chosen, needs = tried, after
    return chosen
