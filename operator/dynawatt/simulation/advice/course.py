"""How a fleet goes through a load, slot by slot: replicas, clocks, watts, latencies.

A course is read off the surface of the fleet's shape. Three kinds of fleet are
told apart: one that nobody touches, one whose clocks are governed, and one whose
replicas follow the forecast as well.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.forecast.rate import RateForecast
from dynawatt.forecast.slots import SLOT_S, Calendar, Numbers
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.curves import ShapeCurve
from dynawatt.simulation.advice.load import ServiceLoad
from dynawatt.simulation.fleet_core import ReplicaShape

Counts = NDArray[np.int64]

_QUANTILES: Final = np.array([0.5, 0.975])
_HELD_SLOTS: Final = 3
"""Replicas stay at least so long: what is started for a peak is not stopped in the next lull."""
_BLOCK: Final = 256
"""Slots that are looked up at once."""


@dataclass(frozen=True, slots=True, eq=False)
class FleetModel:
    """Fleets of one shape under the load's mix."""

    shape: ReplicaShape
    surface: Surface
    curve: ShapeCurve

    @property
    def gpus(self) -> int:
        """Of one replica."""
        return self.shape.replica.tensor_parallel

    @property
    def default_clock_mhz(self) -> int:
        """Where GPUs run that nobody governs."""
        return self.shape.replica.gpu.default_clock_mhz

    def fewest(self, rate_rps: float, most: int) -> int:
        """Fewest replicas, at least one and at most ``most``, that carry a rate as planned."""
        enough = np.flatnonzero(self.curve.capacities_rps[1 : most + 1, -1] >= rate_rps)
        return int(enough[0]) + 1 if len(enough) else most


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A fleet of one shape through a load; arrays have one entry per slot."""

    model: FleetModel
    replicas: Counts
    clock_mhz: Counts
    power_w: Numbers
    """Of all GPUs that the fleet holds, starting replicas included; NaN where the load is not known."""
    default_power_w: Numbers
    """The same if every clock were the default one."""
    ttft_attainment: Numbers
    tbt_attainment: Numbers

    @property
    def gpus(self) -> Counts:
        """Held by the fleet."""
        return self.replicas * self.model.gpus


def untouched(model: FleetModel, load: ServiceLoad, replicas: Counts) -> Course:
    """The fleet at its default clock."""
    clocks = np.full(len(replicas), model.default_clock_mhz)
    return _course(model, load, replicas, clocks)


def governed(model: FleetModel, load: ServiceLoad, replicas: Counts) -> Course:
    """Each slot at the clock of the least watts that carries its rate; the highest one when none does."""
    clocks = np.full(len(replicas), model.default_clock_mhz)
    for slot in np.flatnonzero(load.known):
        clocks[slot] = model.curve.clock_mhz(int(replicas[slot]), float(load.rate_rps[slot]))
    return _course(model, load, replicas, clocks)


def scaled(model: FleetModel, load: ServiceLoad, first: int, most: int) -> Course:
    """Replicas follow a forecast that knows nothing but the load so far, and clocks the load.

    The fleet of a slot is decided as long before as a replica takes to start: enough replicas for the 97.5 % quantile
    of the slots to come, and of those fleets the one of the least watts for their median. Until the forecast says
    anything there are ``first`` replicas; there are never more than ``most``.
    """
    lead = ceil(model.curve.startup_s / SLOT_S)
    wanted = np.full(len(load.rate_rps), min(first, most))
    known, expected_rps, high_rps = _forecasts(load, lead)
    if known.any():
        wanted[known] = _least_watts(model, expected_rps[known], high_rps[known], most)
    replicas = np.array([wanted[max(0, slot + 1 - _HELD_SLOTS) : slot + 1].max() for slot in range(len(wanted))])
    course = governed(model, load, replicas)
    return _with_starts(course, load)


def _forecasts(load: ServiceLoad, lead: int) -> tuple[NDArray[np.bool_], Numbers, Numbers]:
    """By slot: whether anything was forecast ``lead`` slots before, the median, and the highest rate to be ready for.

    The latter over the slot itself and those for which its replicas are held.
    """
    slots = len(load.rate_rps)
    known, expected_rps, high_rps = np.zeros(slots, dtype=bool), np.zeros(slots), np.zeros(slots)
    forecast = RateForecast(Calendar() if load.start_s else Calendar(0.0))
    now_s = load.start_s
    for slot in range(slots):
        ahead = forecast.quantile_rps(now_s, _QUANTILES, lead + _HELD_SLOTS) if forecast.knows_something else None
        if ahead is not None and slot + lead < slots:
            known[slot + lead] = True
            expected_rps[slot + lead] = ahead[0, lead]
            high_rps[slot + lead] = ahead[1, lead:].max()
        if load.known[slot]:
            forecast.observe(now_s, float(load.rate_rps[slot] * load.width_s[slot]), float(load.width_s[slot]))
        now_s += float(load.width_s[slot])
    return known, expected_rps, high_rps


def _least_watts(model: FleetModel, expected_rps: Numbers, high_rps: Numbers, most: int) -> Counts:
    """Of the fleets that carry the high rate, the one that draws least at the expected rate, released GPUs idling."""
    chosen: list[Counts] = []
    saved_w = model.curve.released_w * np.arange(most + 1)[:, None]
    for at in range(0, len(expected_rps), _BLOCK):
        watts = model.curve.power_table(expected_rps[at : at + _BLOCK], most) - saved_w
        fewest = np.array([model.fewest(float(rate), most) for rate in high_rps[at : at + _BLOCK]])
        watts[np.arange(most + 1)[:, None] < fewest] = np.inf
        # Where not even all of them carry the rate, all of them.
        chosen.append(np.where(np.isfinite(watts).any(axis=0), watts.argmin(axis=0), most))
    return np.concatenate(chosen).astype(np.int64)


def _with_starts(course: Course, load: ServiceLoad) -> Course:
    """Add what starting replicas draw before they are Ready, in the slot before the one they serve in."""
    curve = course.model.curve
    starts = np.maximum(0, np.diff(course.replicas, append=course.replicas[-1]))
    starting_w = starts * curve.startup_s * (curve.starting_w - curve.released_w) / load.width_s
    return replace(course, power_w=course.power_w + starting_w, default_power_w=course.default_power_w + starting_w)


def _course(model: FleetModel, load: ServiceLoad, replicas: Counts, clocks_mhz: Counts) -> Course:
    power_w, default_power_w, ttft, tbt = np.full((4, len(replicas)), np.nan)
    surface = _without_classes(model.surface)
    for slot in np.flatnonzero(load.known):
        count, clock, rate_rps = int(replicas[slot]), int(clocks_mhz[slot]), float(load.rate_rps[slot])
        found = surface.at(clock, rate_rps / count, count)
        power_w[slot] = count * found.power_w
        ttft[slot], tbt[slot] = found.ttft_attainment, found.tbt_attainment
        default_power_w[slot] = count * surface.at(model.default_clock_mhz, rate_rps / count, count).power_w
    return Course(model, replicas, clocks_mhz, power_w, default_power_w, ttft, tbt)


def _without_classes(surface: Surface) -> Surface:
    """The same surface, read faster."""

    def bare(points: "dict[int, tuple[SurfacePoint, ...]]") -> dict[int, tuple[SurfacePoint, ...]]:
        return {clock: tuple(replace(point, classes=()) for point in row) for clock, row in points.items()}

    return replace(
        surface,
        points=bare({clock: tuple(row) for clock, row in surface.points.items()}),
        shared_points={
            size: bare({clock: tuple(row) for clock, row in points.items()})
            for size, points in surface.shared_points.items()
        },
    )
