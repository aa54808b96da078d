"""What no plan can go below: the least energy for a load that is known beforehand, with switching for free.

No policy: it is computed from surfaces, slot by slot. In each slot of five minutes the fleet may be any number of equal
replicas of any shape, tuned for capacity or for energy, at any clock that keeps the SLO at the slot's load, to the very
percentile and without spare; whatever it was before, it is so at once and at no cost. Requests of all lengths share
replicas, or long inputs have their own, as our policies may choose: whichever takes less. They are weighed by their
class's work.

There are two figures. ``plan``: the best such fleet of every slot, which a planner with foresight and free switching
would reach. The bound itself is lower: the lower convex hull of those watts over load. Within a slot the load goes up
and down, and who followed it with ever other fleets would, by Jensen's inequality, draw no less than the hull at the
mean load. Nor, but for whole numbers of replicas, do fleets of two shapes side by side, each with its part of the load:
as parts of the inventory they are a mean of two larger fleets. At least one replica always serves.

The bound holds for what surfaces know. These could go below it: clocks that follow single iterations or queues, so that
a low clock is paid for only where nobody waits; an error budget that is spent where it saves most, rather than evenly
over slots; other engine settings than the tuned ones; other pools.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import SLOT_S
from dynawatt.planning.curves import ShapeCurve, shape_curve
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policies.partition import CANDIDATES
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Study
from dynawatt.workload.classes import ALL_CLASSES

CLAIRVOYANT: Final = {
    "clairvoyant": QueueOrder.DEADLINE,
    "clairvoyant-priority": QueueOrder.PRIORITY,
    "clairvoyant-fcfs": QueueOrder.FCFS,
}
"""Queue order by name; the plain name has the order that carries most."""
_HULL_LOADS: Final = 257
_LOADS_AT_ONCE: Final = 128

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """Arrays over slots; watts are those of the whole inventory."""

    name: str
    order: QueueOrder
    start_s: Numbers
    width_s: Numbers
    """All slots last as long, but for the last one."""
    rate_rps: Numbers
    """Load, in requests of the study's mix."""
    idling_w: Numbers
    """The bound, GPUs that no replica holds idling."""
    off_w: Numbers
    """The bound, those GPUs off."""
    plan_idling_w: Numbers
    """The best single fleet of every slot."""
    plan_off_w: Numbers
    overloaded_slots: int
    """Slots with more load than any fleet of the inventory carries within the SLO: they count at the most that is."""

    @property
    def energy_idling_j(self) -> float:
        """The bound, GPUs that no replica holds idling."""
        return float(self.idling_w @ self.width_s)

    @property
    def energy_off_j(self) -> float:
        """The bound, those GPUs off."""
        return float(self.off_w @ self.width_s)

    @property
    def plan_idling_j(self) -> float:
        """With one fleet per slot, GPUs that no replica holds idling."""
        return float(self.plan_idling_w @ self.width_s)

    @property
    def plan_off_j(self) -> float:
        """With one fleet per slot, those GPUs off."""
        return float(self.plan_off_w @ self.width_s)


def clairvoyant(name: str, study: Study, horizon_s: float | None = None) -> Bound:
    """The bound for the queue order of a name in CLAIRVOYANT. Raises InvalidInputError."""
    return clairvoyant_bound(study, CLAIRVOYANT[name], name=name, horizon_s=horizon_s)


def clairvoyant_bound(
    study: Study, order: QueueOrder = QueueOrder.DEADLINE, *, name: str = "clairvoyant", horizon_s: float | None = None
) -> Bound:
    """The bound for the study's future.

    Args:
        study: Its load, shapes, SLO and inventory.
        order: In which replicas serve what waits.
        name: Of the bound, for people.
        horizon_s: When the load ends, if that is not the end of its last slot.

    Raises InvalidInputError when the future is not known, or no shape keeps the SLO under any load.
    """
    if study.future is None:
        raise InvalidInputError(f"{name}: the study holds no future load; count the load first")
    edges_s = study.future.start_s + SLOT_S * np.arange(len(study.future.requests) + 1, dtype=np.float64)
    if horizon_s is not None:
        edges_s[-1] = np.clip(horizon_s, *edges_s[-2:])
    width_s = np.diff(edges_s)
    # A last slot without length has no load either.
    rate_rps = study.future.requests @ study.weights(ALL_CLASSES) / np.maximum(width_s, 1e-9)
    gpus = study.servers * GPUS_PER_SERVER
    fleets = [_Fleets(pools, gpus) for pools in _partitions(study, order)]
    most_rps = max(each.most_rps for each in fleets)
    carried_rps = np.minimum(rate_rps, most_rps)
    able = [each for each in fleets if each.most_rps >= carried_rps.max()]
    found = []
    for released_w in (study.profiles[study.tensor_parallel].released_w, 0.0):
        for watts in (_Fleets.hull_w, _Fleets.least_w):
            beyond_w = [watts(each, carried_rps, released_w) for each in able]
            least_w = min(beyond_w, key=lambda each_w: float(np.where(rate_rps > 0, each_w, 0.0) @ width_s))
            # Nothing serves where nothing comes. To the microwatt: with no GPU released both conventions are the same.
            found.append(np.round(gpus * released_w + np.where(rate_rps > 0, least_w, 0.0), 6))
    idling_w, plan_idling_w, off_w, plan_off_w = found
    return Bound(
        name=name,
        order=order,
        start_s=edges_s[:-1],
        width_s=width_s,
        rate_rps=rate_rps,
        idling_w=idling_w,
        off_w=off_w,
        plan_idling_w=plan_idling_w,
        plan_off_w=plan_off_w,
        overloaded_slots=int((rate_rps > most_rps).sum()),
    )


class _Pool(NamedTuple):
    """Classes that share replicas."""

    share: float
    """Their part of all requests."""
    curves: Sequence[ShapeCurve]


def _partitions(study: Study, order: QueueOrder) -> list[list[_Pool]]:
    """All that carry any load. Raises InvalidInputError when there is none."""
    found = []
    for partition in CANDIDATES:
        shares = [float(study.class_shares[list(classes)].sum()) for classes in partition]
        if all(shares):
            pools = [_Pool(share, _curves(study, order, part)) for share, part in zip(shares, partition, strict=True)]
            found += [pools] if all(pool.curves for pool in pools) else []
    if not found:
        raise InvalidInputError(
            f"SLO of {study.fraction:.1%}: with the order {order} every shape misses it under any load; "
            "loosen the objectives"
        )
    return found


@dataclass(frozen=True, slots=True)
class _Fleets:
    """All that an inventory may hold for one partition; watts are beyond those of released GPUs."""

    pools: Sequence[_Pool]
    gpus: int

    @property
    def loads_rps(self) -> Numbers:
        """Loads of all classes that are looked at: evenly spread ones, and those that use some fleet to the full."""
        capacities_rps = [curve.capacities_rps.ravel() / pool.share for pool in self.pools for curve in pool.curves]
        corners_rps = np.concatenate(capacities_rps)
        return np.unique(np.concatenate([np.linspace(0.0, corners_rps.max(), _HULL_LOADS), corners_rps]))

    @property
    def most_rps(self) -> float:
        """The highest of these that the inventory carries."""
        loads_rps = self.loads_rps
        return float(loads_rps[np.isfinite(self.least_w(loads_rps, 0.0))].max())

    def least_w(self, rates_rps: Numbers, released_w: float) -> Numbers:
        """Of the best fleet of every pool that fit the inventory together; infinite where none carries the load."""
        parts = []
        for first in range(0, len(rates_rps), _LOADS_AT_ONCE):
            loads_rps = rates_rps[first : first + _LOADS_AT_ONCE]
            by_pool = [_by_gpus(pool, pool.share * loads_rps, self.gpus, released_w) for pool in self.pools]
            parts.append(reduce(_side_by_side, by_pool)[-1])
        return np.concatenate(parts)

    def hull_w(self, rates_rps: Numbers, released_w: float) -> Numbers:
        """The lower convex hull of ``least_w`` over load."""
        loads_rps = self.loads_rps
        watts = self.least_w(loads_rps, released_w)
        corners: list[tuple[float, float]] = []
        for x, y in zip(loads_rps.tolist(), watts.tolist(), strict=True):
            if y == inf:
                break
            while len(corners) > 1 and _above(corners[-2], corners[-1], (x, y)):
                corners.pop()
            corners.append((x, y))
        return np.asarray(np.interp(rates_rps, *np.array(corners).T))


def _by_gpus(pool: _Pool, loads_rps: Numbers, gpus: int, released_w: float) -> Numbers:
    """Least watts of a fleet with at most so many GPUs, [GPUs, load]."""
    least_w = np.full((gpus + 1, len(loads_rps)), inf)
    for curve in pool.curves:
        held = np.arange(1, curve.most_replicas + 1) * curve.gpus
        watts = curve.power_table(loads_rps)[1:] - (held * released_w)[:, None]
        least_w[held] = np.minimum(least_w[held], watts)
    return np.asarray(np.minimum.accumulate(least_w, axis=0))


def _side_by_side(some_w: Numbers, others_w: Numbers) -> Numbers:
    """Of two pools that share so many GPUs, [GPUs, load]."""
    return np.array([(some_w[: gpus + 1] + others_w[gpus::-1]).min(axis=0) for gpus in range(len(some_w))])


def _curves(study: Study, order: QueueOrder, classes: Sequence[int]) -> list[ShapeCurve]:
    """Of every shape that carries anything, planned to the SLO itself."""
    tuned = [find(degree, order, classes) for degree in study.profiles for find in (study.tuned, study.efficient)]
    shapes = [shape for shape in tuned if shape is not None]
    surfaces = study.surfaces_of([(shape, classes) for shape in shapes])
    curves = [
        shape_curve(
            shape.replica.name,
            surface,
            shape.replica,
            attainment=study.fraction,
            startup_s=0.0,
            most_replicas=study.servers * (GPUS_PER_SERVER // shape.replica.tensor_parallel),
        )
        for shape, surface in zip(shapes, surfaces, strict=True)
    ]
    return [curve for curve in curves if curve.capacity_rps(curve.most_replicas) > 0]


def _above(left: tuple[float, float], middle: tuple[float, float], right: tuple[float, float]) -> bool:
    """Whether the middle one of three points lies on or above the line through the others."""
    return (middle[1] - left[1]) * (right[0] - left[0]) >= (right[1] - left[1]) * (middle[0] - left[0])
