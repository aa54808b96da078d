"""The rungs that a service can climb, each of them simulated on its own load.

From the user's own configuration: better engine flags, then governed GPU clocks,
then replicas that follow the load, then another tensor-parallel degree. A rung
holds all those below it. What they save is against the configuration as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, StrEnum
from math import ceil
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.planning.attainment import planned_attainment
from dynawatt.planning.curves import shape_curve
from dynawatt.planning.governor_table import SPARE_BUDGET
from dynawatt.simulation.advice.course import Counts, Course, FleetModel, governed, scaled, untouched
from dynawatt.simulation.advice.load import ServiceLoad
from dynawatt.simulation.advice.saving import Cost, Saving, cost_of, saving_of
from dynawatt.simulation.advice.tuning import TunedFlags, compared_shape, tuned_flags
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.sizing import capacity_rps
from dynawatt.simulation.study import Study
from dynawatt.simulation.surface_question import SurfaceQuestion

_PEAK_MARGIN: Final = 1.5
"""Replicas may become so many times what the peak needs, if that is more than there are."""
_MOST_REPLICAS: Final = 2000
_REQUESTS: Final = 4000
"""Measured at every point of a surface."""


class Step(StrEnum):
    """What a rung adds."""

    PRESENT = "present"
    FLAGS = "flags"
    CLOCK = "clock"
    REPLICAS = "replicas"
    SHAPE = "shape"


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """One of them, over the whole load."""

    step: Step
    course: Course
    cost: Cost
    saving: Saving


@dataclass(frozen=True, slots=True, eq=False)
class Advice:
    """All rungs, the configuration as it is first."""

    load: ServiceLoad
    inventory_gpus: int
    """What the user has: all rungs pay for them."""
    flags: TunedFlags
    rungs: Sequence[Rung]
    urgent_first: Rung | None
    """The highest rung if requests waited in order of their deadlines, which needs the plug-in."""
    refused: Sequence[int]
    """Tensor-parallel degrees that meet the SLO under no load."""

    @property
    def present(self) -> Rung:
        """The configuration as it is."""
        return self.rungs[0]

    def rung(self, step: Step) -> Rung | None:
        """The one that adds this."""
        return next((rung for rung in self.rungs if rung.step is step), None)


def fitting_replicas(study: Study, shape: ReplicaShape, load: ServiceLoad) -> int:
    """As many replicas at the default clock as the busiest slot needs; raises InvalidInputError where none do."""
    if capacity_rps(shape.replica, shape.settings, study.demand()) <= 0:
        raise InvalidInputError(
            f"SLO of {study.fraction:.1%}: a replica of {shape.replica.name} misses it under any load with "
            f"--max-num-batched-tokens {shape.settings.max_num_batched_tokens}; give --replicas, how many there are"
        )
    [model] = _models(study, [(shape, _Detail.DEFAULT_CLOCK)], load, 0)
    return model.fewest(load.peak_rps, model.curve.most_replicas)


def climb(
    study: Study,
    present: ReplicaShape,
    replicas: Counts,
    load: ServiceLoad,
    tell: Callable[[str], None],
) -> Advice:
    """Simulate every rung.

    Args:
        study: The load's mix, the SLO, the profiles of all tensor-parallel degrees, and where surfaces come from.
        present: What the user runs.
        replicas: How many of it, by slot.
        load: What they were asked.
        tell: Is told what is being done.

    Raises InvalidInputError when no tensor-parallel degree meets the SLO.
    """
    tell("tuning engine flags")
    flags = tuned_flags(study, present)
    tell("tuning the flags of other tensor-parallel degrees")
    degree, order = present.replica.tensor_parallel, present.settings.queue_order
    shapes = {other: compared_shape(study, other, order) for other in study.profiles if other != degree}
    urgent = compared_shape(study, degree, QueueOrder.DEADLINE)
    others = [shape for shape in shapes.values() if shape is not None]
    if flags.after_rps <= 0 and not others:
        raise InvalidInputError(
            f"SLO of {study.fraction:.1%}: no tensor-parallel degree of {present.replica.model.name} meets it under "
            "any load; loosen the objectives"
        )
    tell("simulating latency and power of every shape")
    inventory = int(replicas.max()) * degree
    compared = [(shape, _Detail.EVERY_OTHER_CLOCK) for shape in (*others, urgent) if shape is not None]
    wanted = [(present, _Detail.DEFAULT_CLOCK), (flags.shape, _Detail.ALL_CLOCKS), *compared]
    untouched_model, own, *rest = _models(study, wanted, load, inventory)
    climbing = _Climb(load, replicas, inventory, untouched(untouched_model, load, replicas))
    tell("going through the load")
    rungs = [climbing.rung(Step.PRESENT, climbing.baseline)]
    if flags.after_rps > 0:
        rungs.append(climbing.rung(Step.FLAGS, untouched(own, load, replicas)))
        rungs.append(climbing.rung(Step.CLOCK, governed(own, load, replicas)))
        rungs.append(climbing.rung(Step.REPLICAS, climbing.scaled(own)))
    reshaped = [climbing.rung(Step.SHAPE, climbing.scaled(model)) for model in rest[: len(others)]]
    if reshaped:
        rungs.append(min(reshaped, key=lambda rung: (rung.cost.attainment < study.fraction, rung.cost.energy_j)))
    return Advice(
        load=load,
        inventory_gpus=inventory,
        flags=flags,
        rungs=tuple(rungs),
        urgent_first=climbing.rung(Step.REPLICAS, climbing.scaled(rest[-1])) if urgent else None,
        refused=tuple(sorted(other for other, shape in shapes.items() if shape is None)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Climb:
    """What all rungs have in common."""

    load: ServiceLoad
    replicas: Counts
    inventory_gpus: int
    baseline: Course

    def scaled(self, model: FleetModel) -> Course:
        """Replicas from one up to what the user's GPUs hold, or to what the peak needs if that is more."""
        held = max(1, self.inventory_gpus // model.gpus)
        needed = model.fewest(_PEAK_MARGIN * self.load.peak_rps, model.curve.most_replicas)
        return scaled(model, self.load, first=max(1, min(held, needed)), most=max(held, needed))

    def rung(self, step: Step, course: Course) -> Rung:
        cost = cost_of(course, self.load, self.inventory_gpus)
        return Rung(step, course, cost, saving_of(course, self.baseline, self.load, self.inventory_gpus))


class _Detail(Enum):
    """How much is asked of a surface."""

    DEFAULT_CLOCK = 1
    EVERY_OTHER_CLOCK = 2
    ALL_CLOCKS = 3


def _models(
    study: Study, wanted: Sequence[tuple[ReplicaShape, _Detail]], load: ServiceLoad, gpus: int
) -> list[FleetModel]:
    """Of shapes under the study's mix, for fleets as large as they may become with so many GPUs."""
    most = [_most_replicas(study, shape, load, gpus) for shape, _ in wanted]
    questions = [_question(study, *each, largest) for each, largest in zip(wanted, most, strict=True)]
    surfaces = study.surfaces.get_all(questions)
    attainment = planned_attainment(study.fraction, SPARE_BUDGET)
    found = []
    for (shape, _), surface, largest in zip(wanted, surfaces, most, strict=True):
        degree = shape.replica.tensor_parallel
        curve = shape_curve(
            f"tp{degree}",
            surface,
            shape.replica,
            attainment=attainment,
            startup_s=study.startup_of(degree),
            most_replicas=largest,
        )
        found.append(FleetModel(shape, surface, curve))
    return found


def _most_replicas(study: Study, shape: ReplicaShape, load: ServiceLoad, gpus: int) -> int:
    """As many as the GPUs hold, or more where the peak needs them."""
    alone_rps = capacity_rps(shape.replica, shape.settings, study.demand())
    needed = ceil(_PEAK_MARGIN * load.peak_rps / alone_rps) if alone_rps > 0 else 1
    return min(_MOST_REPLICAS, max(gpus // shape.replica.tensor_parallel, needed, 1))


def _question(study: Study, shape: ReplicaShape, detail: _Detail, most: int) -> SurfaceQuestion:
    """As a study asks, but no more than advice needs."""
    question = study.question(shape)
    clocks = {
        _Detail.DEFAULT_CLOCK: question.clocks_mhz[-1:],
        _Detail.EVERY_OTHER_CLOCK: question.clocks_mhz[::-2][::-1],
        _Detail.ALL_CLOCKS: question.clocks_mhz,
    }[detail]
    smaller = [size for size in question.fleet_sizes if size < most]
    sizes = question.fleet_sizes[: len(smaller) + 1]
    return replace(question, clocks_mhz=clocks, fleet_sizes=sizes, requests=_REQUESTS)
