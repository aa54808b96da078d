"""The first step of a service, from what is there now, which need not be a fleet of one shape.

Decisions are homogeneous fleets. What is missing for one is started, and until it
is Ready everything that serves now goes on serving and keeps its GPUs; only then
is the rest drained. While something starts, the only other decision is to start
more of it; soon after a change, only what a shortage demands.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dynawatt.planning.commitment import Courses, Indices, Prices, interpolated
from dynawatt.planning.curves import Numbers
from dynawatt.planning.fleet_costs import CostRules, Own, Service, cumulated
from dynawatt.planning.nodes import places


@dataclass(frozen=True, slots=True)
class ChangeRules:
    """What keeps a plan from swinging."""

    dwell_slots: int
    """How long a fleet that was made smaller is expected to stay so, at least 1."""
    dwell_s: float
    """No change comes sooner after another one, unless capacity is short."""
    minimum_saving: float
    """Fraction of a slot's energy that a change has to save over waiting for another slot."""
    reshape_saving: float = 0.0
    """Fraction of the energy over the whole horizon that another shape has to save beyond that."""
    interleaves: bool = False
    """Whether a new shape may begin with what has room, and go on as others drain: the driver sees to it that enough
    serve meanwhile."""


@dataclass(frozen=True, slots=True, eq=False)
class Running:
    """Some replicas that go on as they are, for the whole horizon."""

    capacity_rps: float
    drawn_j: Numbers
    """Energy from now to the start of each slot."""
    net_j: Numbers
    """The same less what released GPUs draw."""
    spent_j: Numbers
    """As cost: with the charges for shortages."""


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """Where one service stands; arrays are [shape, replicas]."""

    own: Own
    serving: Running
    """Replicas that are Ready."""
    keeping: Running
    """Those that start as well, as if they had."""
    started: Indices
    """How many replicas a fleet takes that are not there."""
    pending: NDArray[np.bool_]
    """Whether a fleet has to wait for any replica."""
    stays: NDArray[np.bool_]
    """The fleet that is there or on its way; while shapes are mixed the goal, and nowhere true without one."""
    fits: NDArray[np.bool_]
    """Whether those replicas can be started beside all that runs, as GPUs are free now, or in its place by and by."""
    allowed: NDArray[np.bool_]
    """Fleets that may be decided for now."""


def look(own: Own, costs: CostRules, changes: ChangeRules, free_gpus: Sequence[int] | None) -> Present:
    """Where a service stands, and for which fleets it may be decided.

    Args:
        own: Its tables.
        costs: What counts as cost.
        changes: What keeps it from swinging.
        free_gpus: By node; None for as many as wanted.
    """
    one = own.service
    have, known, starting = one.have[:, None], one.known(one.have)[:, None], one.starting[:, None]
    started = np.maximum(0, own.counts - have)
    keeping = running(own, one.have, costs)
    stays = (own.counts == known) & ((starting > 0) if one.starting.any() else (have == have.sum()))
    room = _room(one, free_gpus)[:, None]
    fits = started <= room
    if changes.interleaves and free_gpus is not None:
        fits |= (room >= 1) & (own.counts * one.gpus[:, None] <= sum(free_gpus) + one.held_gpus)
    _mark_goal(one, stays)
    allowed = own.allowed & fits
    if one.starting.any():
        going = np.zeros(allowed.shape, dtype=bool)
        going[one.home, known[one.home, 0] :] = True
        allowed = _narrowed(allowed, going)
    elif one.state.since_change_s < changes.dwell_s:
        short = bool(keeping.capacity_rps < one.high_rps[: int(own.lead_slots.max()) + 1].max())
        more = own.capacity_rps > keeping.capacity_rps
        # Shapes that are mixed while nothing starts: the end of a change, not a new one.
        ends_change = (started == 0) & (not stays.any())
        allowed = _narrowed(allowed, stays | ends_change | (more & short))
    return Present(
        own=own,
        serving=running(own, one.ready, costs),
        keeping=keeping,
        started=started,
        pending=(started > 0) | (starting > 0),
        stays=stays,
        fits=fits,
        allowed=allowed,
    )


def _mark_goal(one: Service, stays: NDArray[np.bool_]) -> None:
    """While shapes are mixed, the fleet that a change under way leads to is what nothing has to be saved for."""
    goal, names = one.state.goal, list(one.state.curves)
    if goal is None or stays.any() or goal.shape not in names or not 0 <= goal.replicas < stays.shape[1]:
        return
    stays[names.index(goal.shape), goal.replicas] = True


def running(own: Own, counts: Indices, costs: CostRules) -> Running:
    """Of any counts by shape: they share the load in proportion to what they carry."""
    one = own.service
    counts = one.known(counts)
    capacities_rps = np.array([curve.capacity_rps(int(n)) for curve, n in zip(one.curves, counts, strict=True)])
    total_rps = float(capacities_rps.sum())
    power_w, released_w = np.zeros(own.slots), 0.0
    for curve, count, capacity_rps in zip(one.curves, counts, capacities_rps, strict=True):
        if count:
            share = capacity_rps / total_rps if total_rps > 0 else 0.0
            power_w += costs.serving_w(curve, one.expected_rps * share, int(count))[-1]
            released_w += costs.released_w(curve) * int(count)
    charge_w = own.charge.watts(np.array(total_rps)) + own.charge.missing_w(counts.sum())
    return Running(
        total_rps,
        drawn_j=cumulated(power_w * own.slot_s),
        net_j=cumulated((power_w - released_w) * own.slot_s),
        spent_j=cumulated((power_w - released_w + charge_w) * own.slot_s),
    )


def first_costs(present: Present, courses: Courses, prices: Prices, changes: ChangeRules) -> Numbers:
    """Cost of every decision with the cheapest course after it, [shape, replicas], whether it is allowed now or not.

    Args:
        present: Where the service stands.
        courses: Of this service, the cheapest ones from every slot at the same prices.
        prices: What GPUs cost beside their energy.
        changes: What keeps it from swinging.
    """
    own, one = present.own, present.own.service
    held = one.gpus[:, None] * own.counts
    until = np.where(held < one.held_gpus, min(changes.dwell_slots, own.slots), 1)
    fleet = (np.arange(len(one.curves))[:, None], own.counts)
    cost_j = own.spent_j[until, *fleet] + courses.to_go_j[until, *fleet] + prices.paid_j[until] * held
    for shape, curve in enumerate(one.curves):
        ready = min(curve.startup_s / own.slot_s, own.slots)
        until_slot = min(int(own.lead_slots[shape]), own.slots)
        started = present.started[shape]
        pending_j = (
            interpolated(present.serving.spent_j, ready)
            + own.start_j[shape] * (started + one.starting[shape])
            + prices.paid_j[until_slot] * (one.held_gpus + started * curve.gpus)
            + prices.of_start(curve.gpus) * started
            + own.spent_j[until_slot, shape]
            - interpolated(own.spent_j[:, shape], ready)
            + courses.to_go_j[until_slot, shape]
        )
        cost_j[shape] = np.where(present.pending[shape], pending_j, cost_j[shape])
    return cost_j


def threshold_j(present: Present, changes: ChangeRules) -> Numbers:
    """What decisions have to save to be made, [shape, replicas]: nothing to stay, or to end a change."""
    changing = ~present.stays & (present.stays.any() | (present.started > 0))
    # Among equals stands what is there.
    least_j = (changes.minimum_saving + 1e-9) * present.keeping.drawn_j[1]
    one = present.own.service
    is_other = np.arange(len(one.curves)) != one.home
    return np.asarray(changing * (least_j + reshaping_j(present, changes) * is_other[:, None]))


def reshaping_j(present: Present, changes: ChangeRules) -> float:
    """What another shape has to save, now or later: if only now, it would be put off from slot to slot for ever."""
    return changes.reshape_saving * float(present.keeping.drawn_j[-1])


def _room(one: Service, free_gpus: Sequence[int] | None) -> Numbers:
    """How many replicas can be started now, by shape: on single nodes, and within the service's own limit."""
    own = np.inf if one.state.max_gpus is None else max(0, one.state.max_gpus - one.held_gpus)
    nodes = [np.inf if free_gpus is None else places(free_gpus, curve.gpus) for curve in one.curves]
    return np.array([min(most, own // curve.gpus) for most, curve in zip(nodes, one.curves, strict=True)])


def _narrowed(allowed: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those that are wanted too; where there are none, such as after a user's new limit, all that were allowed."""
    both = allowed & wanted
    return both if both.any() else allowed
