"""What fleets draw by their curves: the one that runs, and ones that stand still."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.planning.curves import ShapeCurve


class Draw(NamedTuple):
    """What a fleet takes at one moment."""

    power_w: float
    """Of all GPUs that it holds."""
    gpus: int


@dataclass(frozen=True, slots=True, eq=False)
class StaticFleet:
    """Equal replicas at the default clock that are never changed. Raises InvalidInputError for less than none."""

    curve: ShapeCurve
    replicas: int

    def __post_init__(self) -> None:
        """Check the range."""
        if self.replicas < 0:
            raise InvalidInputError(f"static fleet of {self.replicas} replicas: must be 0 or more")

    @property
    def capacity_rps(self) -> float:
        """Most load within the SLO; each replica beyond those that the curve knows carries as much as one of these."""
        known = min(self.replicas, self.curve.most_replicas)
        return self.curve.capacity_rps(known) * (self.replicas / known) if known else 0.0

    def carries(self, rate_rps: float) -> bool:
        """Whether the SLO would hold under this load."""
        return rate_rps <= self.capacity_rps

    def draw(self, rate_rps: float) -> Draw:
        """Under a load, also under one that it does not carry: then the watts of a busy fleet, which are too few."""
        power_w = float(self.curve.clock_power_w(self.replicas, rate_rps, self.curve.clocks_mhz[-1]))
        return Draw(power_w, self.replicas * self.curve.gpus)


def fewest_static(curve: ShapeCurve, peak_rps: float, *, least: int = 1, most: int | None = None) -> StaticFleet | None:
    """The fewest replicas at the default clock that carry a peak; None for a shape that meets the SLO under no load.

    Args:
        curve: Of the shape.
        peak_rps: To be carried.
        least: Replicas that are wanted in any case.
        most: Replicas that are allowed, also where they do not carry the peak; None for as many as it takes.
    """
    known = curve.most_replicas
    if curve.capacity_rps(known) <= 0:
        return None
    replicas = int(np.searchsorted(curve.capacities_rps[:, -1], peak_rps))
    if replicas > known:
        replicas = ceil(peak_rps * known / curve.capacity_rps(known))
    return StaticFleet(curve, max(least, replicas if most is None else min(replicas, most)))


@dataclass(frozen=True, slots=True, eq=False)
class RunningShape:
    """The replicas of one shape as they are."""

    curve: ShapeCurve
    serving: int
    starting: int = 0
    governed: bool = False
    """Whether their clocks follow the load; else they are the default ones."""


def running_draw(shapes: Sequence[RunningShape], rate_rps: float) -> Draw:
    """What the fleet that runs draws by the model; shapes share the load in proportion to what they carry."""
    capacities_rps = [StaticFleet(one.curve, one.serving).capacity_rps for one in shapes]
    total_rps, serving = sum(capacities_rps), sum(one.serving for one in shapes)
    power_w, gpus = 0.0, 0
    for one, capacity_rps in zip(shapes, capacities_rps, strict=True):
        share = capacity_rps / total_rps if total_rps > 0 else one.serving / max(serving, 1)
        power_w += _serving_w(one, rate_rps * share) + one.starting * one.curve.starting_w
        gpus += (one.serving + one.starting) * one.curve.gpus
    return Draw(power_w, gpus)


def _serving_w(one: RunningShape, rate_rps: float) -> float:
    static = StaticFleet(one.curve, one.serving)
    if not one.governed or one.serving > one.curve.most_replicas or not static.carries(rate_rps):
        return static.draw(rate_rps).power_w
    return one.curve.power_w(one.serving, rate_rps)
