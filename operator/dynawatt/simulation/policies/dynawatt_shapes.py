"""The shapes that our policies choose from, each with its curve and its governor tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.attainment import planned_attainment
from dynawatt.planning.curves import ShapeCurve, shape_curve
from dynawatt.planning.governor_table import governor_table
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policy import Governed
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Study
from dynawatt.workload.classes import ALL_CLASSES


@dataclass(slots=True, eq=False)
class ShapeChoice:
    """One shape for one pool's classes."""

    name: str
    shape: ReplicaShape
    surface: Surface
    curve: ShapeCurve
    study: Study
    classes: tuple[int, ...]
    _governed: dict[int, Governed] = field(default_factory=dict)

    def calibrated(self, time_factor: float, power_factor: float) -> "ShapeChoice":
        """The same by a profile that is off by these factors; itself where that carries nothing within the SLO.

        Watts are scaled on the surface, so that only another time factor needs another one.
        """
        own, settings = self.shape.replica, self.shape.settings
        timed = own.calibrated(time_factor=time_factor * own.time_factor, power_factor=own.power_factor)
        surface = self.study.surface(ReplicaShape(timed, settings), self.classes).drawing(power_factor)
        both = timed.calibrated(time_factor=timed.time_factor, power_factor=power_factor * own.power_factor)
        found = _choice(self.study, ReplicaShape(both, settings), surface, self.classes)
        return found or self

    def governed(self, replicas: int) -> Governed:
        """The claim of each of so many replicas that share a load."""
        if replicas not in self._governed:
            clocks_mhz = self.surface.clocks_mhz
            table = governor_table(
                self.surface,
                self.shape.replica,
                self.shape.settings,
                self.study.mix_of(self.classes),
                self.study.objectives,
                attainment=self.study.fraction,
                replicas=replicas,
                urgent_first=self.shape.settings.queue_order is not QueueOrder.FCFS,
            )
            self._governed[replicas] = Governed(table, clocks_mhz[0], clocks_mhz[-1])
        return self._governed[replicas]


def shape_choices(study: Study, order: QueueOrder, classes: Sequence[int] = ALL_CLASSES) -> list[ShapeChoice]:
    """All shapes that are worth a look for these classes.

    Raises InvalidInputError when none meets the SLO at any load.
    """
    found = [shape for degree in _degrees(study) if (shape := _shape(study, degree, order, classes)) is not None]
    surfaces = study.surfaces_of([(shape, classes) for shape in found])
    choices = []
    for shape, surface in zip(found, surfaces, strict=True):
        if (choice := _choice(study, shape, surface, tuple(classes))) is not None:
            choices.append(choice)
    if not choices:
        raise InvalidInputError(
            f"SLO of {study.fraction:.1%}: no number of GPUs per replica meets it under any load; loosen the objectives"
        )
    return choices


def least_watts(choices: Sequence[ShapeChoice], rates_rps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Watts beyond released GPUs of the best shape and number of replicas at each rate; infinite beyond all of them."""
    best = np.full(len(rates_rps), np.inf)
    for choice in choices:
        watts = choice.curve.power_table(rates_rps)
        released_w = choice.curve.released_w * np.arange(len(watts))[:, None]
        best = np.minimum(best, (watts - released_w)[1:].min(axis=0))
    return best


def fewest_gpus(choices: Sequence[ShapeChoice], rate_rps: float) -> float:
    """Of the fleets that carry a rate; infinite when none does."""
    return min(
        (
            replicas * choice.curve.gpus
            for choice in choices
            for replicas in range(1, choice.curve.most_replicas + 1)
            if choice.curve.capacity_rps(replicas) >= rate_rps
        ),
        default=inf,
    )


def _choice(study: Study, shape: ReplicaShape, surface: Surface, classes: tuple[int, ...]) -> ShapeChoice | None:
    """None when the shape carries nothing within the SLO."""
    degree = shape.replica.tensor_parallel
    name = f"tp{degree}"
    curve = shape_curve(
        name,
        surface,
        shape.replica,
        attainment=planned_attainment(study.fraction),
        startup_s=study.startup_of(degree),
        most_replicas=study.servers * GPUS_PER_SERVER // degree,
        clocks_mhz=None if study.knobs.clock else (shape.replica.gpu.default_clock_mhz,),
    )
    carries = curve.capacity_rps(curve.most_replicas) > 0
    return ShapeChoice(name, shape, surface, curve, study, classes) if carries else None


def _degrees(study: Study) -> list[int]:
    return sorted(study.profiles) if study.knobs.shape else [study.tensor_parallel]


def _shape(study: Study, degree: int, order: QueueOrder, classes: Sequence[int]) -> ReplicaShape | None:
    if study.knobs.settings:
        return study.efficient(degree, order, classes)
    profile = study.profiles[degree]
    return ReplicaShape(profile, study.base_settings(profile, order))
