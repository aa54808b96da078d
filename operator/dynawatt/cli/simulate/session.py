"""One set of conditions, from what the user chose to the finished comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

import numpy as np

from dynawatt.accounting.tariff import Tariff
from dynawatt.adapters.profile_files import find_replica
from dynawatt.cli.simulate.comparison import Comparison, Fidelity, Question
from dynawatt.cli.simulate.loads import Load
from dynawatt.cli.simulate.options import Slo
from dynawatt.cli.simulate.progress import ProgressBars
from dynawatt.cli.simulate.running import run_all
from dynawatt.cli.simulate.study import PreparedStudy, StudyOptions, build_study
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.perfmodel.surface import Surface
from dynawatt.quantities import S_PER_HOUR
from dynawatt.simulation.study import Study, SurfaceSource
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.streaming import Workload
from dynawatt.workload.trace import ScaleMode

EVENTS_UP_TO_S: Final = 24 * S_PER_HOUR + 1.0
"""Longer loads are simulated slot by slot, unless the user wants otherwise."""
_DEGREES: Final = (1, 2, 4, 8)
"""Tensor-parallel degrees that fill a server."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that the user chose but the policies."""

    workload: Workload
    model: str
    gpu: str
    tensor_parallel: int
    slo: Slo
    slo_text: str
    hours: float | None
    seed: int
    scale_mode: ScaleMode
    rate_scale: float = 1.0
    percentile_classes: bool = False
    """Cuts between request classes at the load's own thirds, rather than DynamoLLM's table."""
    fidelity: Fidelity | None = None
    released_w: float | None = None
    """Of a GPU that no replica holds; None takes the GPU's."""
    tariff: Tariff | None = None
    options: StudyOptions = field(default_factory=StudyOptions)


@dataclass(frozen=True, slots=True)
class Session:
    """Conditions, prepared: policies can be run."""

    conditions: Conditions
    load: Load
    prepared: PreparedStudy
    question: Question

    @property
    def study(self) -> Study:
        """What policies are built from."""
        return self.prepared.study

    def with_study(self, study: Study) -> "Session":
        """The same load and sizes with other things known or allowed."""
        return replace(self, prepared=replace(self.prepared, study=study))

    def with_released(self, released_w: float) -> "Session":
        """The same in a site where an unused GPU draws this. Raises InvalidInputError."""
        study = self.study
        models = {degree: with_released(model, released_w) for degree, model in study.profiles.items()}
        # Surfaces do not depend on it: they are asked for with the GPU's own watts.
        surfaces = _OtherReleased(study.surfaces, study.profiles, released_w)
        there = self.with_study(replace(study, profiles=models, surfaces=surfaces, _surfaces={}, _efficient={}))
        return replace(there, question=replace(self.question, released_w=released_w))

    def compare(self, names: Sequence[str], bars: ProgressBars, *, tolerant: bool = False) -> Comparison:
        """Simulate policies under these conditions. Raises InvalidInputError, as ``run_all`` does."""
        tariff = self.conditions.tariff
        return run_all(names, self.prepared, self.load, self.question, bars, tolerant=tolerant, tariff=tariff)


def prepare(conditions: Conditions, surfaces: SurfaceSource) -> Session:
    """Size the static fleet, scale the load, and gather what policies are built from. Raises InvalidInputError."""
    models = _find_replicas(conditions)
    replica = models[conditions.tensor_parallel]
    load = Load(
        conditions.workload,
        hours=conditions.hours,
        seed=conditions.seed,
        scale_mode=conditions.scale_mode,
        context_tokens=min(replica.model.architecture.context_tokens, replica.kv_capacity_tokens),
        rate_scale=conditions.rate_scale,
    )
    classes = thirds(load.mix()) if conditions.percentile_classes else LengthClasses()
    options = replace(conditions.options, classes=classes)
    prepared = build_study(load, conditions.slo, models, conditions.tensor_parallel, surfaces, options)
    session = Session(conditions, load, prepared, _question(conditions, load, prepared))
    return session if conditions.released_w is None else session.with_released(conditions.released_w)


def thirds(mix: LengthMix) -> LengthClasses:
    """Cuts at the 33rd and 66th percentile of a load's own lengths, as in DynamoLLM's one-hour experiment."""
    low_input, high_input = _cuts(np.percentile(mix.input_tokens, (33, 66)))
    low_output, high_output = _cuts(np.percentile(mix.output_tokens, (33, 66)))
    return LengthClasses((low_input, high_input), (low_output, high_output))


def with_released(replica: ReplicaProfile, released_w: float) -> ReplicaProfile:
    """The same replica in a site where an unused GPU draws this."""
    if not 0 <= released_w < inf:
        raise InvalidInputError(f"--idle-power {released_w} W: must be 0 or more")
    gpu = replace(replica.gpu, released_w=released_w)
    return ReplicaProfile(replace(replica.model, gpu=gpu), replica.tensor_parallel)


def _find_replicas(conditions: Conditions) -> dict[int, ReplicaProfile]:
    """By tensor-parallel degree, all that the profile covers. Raises InvalidInputError when the wanted one is not."""
    wanted = conditions.tensor_parallel
    found = {wanted: find_replica(conditions.model, conditions.gpu, wanted)}
    for degree in _DEGREES:
        try:
            found[degree] = find_replica(conditions.model, conditions.gpu, degree)
        except InvalidInputError:
            # Too large for so few GPUs, or not measured: policies do without.
            continue
    return dict(sorted(found.items()))


def _cuts(percentiles: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[int, int]:
    """Lengths up to a percentile are below its cut; two cuts never meet."""
    low, high = (int(each) + 1 for each in percentiles.tolist())
    return low, max(high, low + 1)


@dataclass(frozen=True, slots=True)
class _OtherReleased:
    """Surfaces of the same replicas, but for what unused GPUs draw."""

    source: SurfaceSource
    models: Mapping[int, ReplicaProfile]
    released_w: float

    def get_all(self, questions: Sequence[SurfaceQuestion]) -> list[Surface]:
        """One for each question, in order."""
        own = [replace(question, replica=self.models[question.replica.tensor_parallel]) for question in questions]
        return [replace(surface, released_w=self.released_w) for surface in self.source.get_all(own)]


def _question(conditions: Conditions, load: Load, prepared: PreparedStudy) -> Question:
    study = prepared.study
    replica = study.profiles[study.tensor_parallel]
    by_length = Fidelity.EVENTS if load.end_s <= EVENTS_UP_TO_S else Fidelity.SLOTS
    return Question(
        load=load.workload.name,
        rate_scale=load.rate_scale,
        interarrival_cv=study.cv,
        model=replica.model.architecture.name,
        gpu=replica.gpu.name,
        profile=replica.model.name,
        slo=conditions.slo,
        slo_text=conditions.slo_text,
        queue_order=conditions.options.queue_order.value,
        horizon_s=load.end_s,
        servers=study.servers,
        servers_rule=prepared.servers_rule,
        seed=conditions.seed,
        fidelity=conditions.fidelity or by_length,
        cold_start=conditions.options.cold_start,
        predictor_accuracy=study.predictor_accuracy,
        startup_s=study.startup_s,
        released_w=replica.released_w,
        class_cuts=(study.classes.input_cuts, study.classes.output_cuts),
    )
