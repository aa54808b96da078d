"""The latency and power model of every shape that a service may have: profile, surface, curve."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dynawatt.adapters.engine_settings import engine_settings
from dynawatt.adapters.objectives import latency_objectives
from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import SLO, GPUClock, LLMServiceSpec
from dynawatt.controller.draft import Hold
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.target import shape_name
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.attainment import planned_attainment
from dynawatt.planning.curves import ShapeCurve, shape_curve
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import clock_grid
from dynawatt.workload.builtin import built_in
from dynawatt.workload.mix import LengthMix

_PRIOR: Final = built_in("azure-2023-conv")
PRIOR_MIX: Final = _PRIOR.mix(512)
"""What a service is taken for until its own requests tell."""
PRIOR_CV: Final = _PRIOR.interarrival_cv
"""And its burstiness, the CV of the gaps between requests: vLLM exports nothing that tells a service's own."""
_MOST_MODELS: Final = 1024
"""Kept: they are asked for in every tick, and shared by services with the same flags."""


@dataclass(frozen=True, slots=True)
class ShapeModels:
    """What is known of a shape before any load is."""

    name: str
    replica: ReplicaProfile
    engine: EngineSettings


@dataclass(frozen=True, slots=True, eq=False)
class _CurveOf:
    """A curve, and what it was made from."""

    curve: ShapeCurve
    surface: Surface
    terms: tuple[float, float, int]
    """Planned attainment, start-up seconds, largest fleet."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """The last question about a shape, and all it was made from but the mix."""

    question: SurfaceQuestion
    models: ShapeModels
    slo: SLO
    clock: GPUClock


@dataclass(slots=True)
class ShapeBook:
    """Surfaces and curves of one service by shape, as remembered between ticks."""

    surfaces: dict[str, Surface] = field(default_factory=dict)
    _curves: dict[str, _CurveOf] = field(default_factory=dict)
    _asked: dict[str, _Asked] = field(default_factory=dict)

    def curve(self, models: ShapeModels, *, attainment: float, startup_s: float, most_replicas: int) -> ShapeCurve:
        """What fleets of a shape carry and draw; made again only when something about it changed."""
        surface, known = self.surfaces[models.name], self._curves.get(models.name)
        terms = (planned_attainment(attainment), startup_s, most_replicas)
        if known is None or known.surface is not surface or known.terms != terms:
            curve = shape_curve(
                models.name,
                surface,
                models.replica,
                attainment=terms[0],
                startup_s=startup_s,
                most_replicas=most_replicas,
            )
            known = self._curves[models.name] = _CurveOf(curve, surface, terms)
        return known.curve

    def update(
        self,
        store: SurfaceStore,
        models: Sequence[ShapeModels],
        spec: LLMServiceSpec,
        mix: LengthMix,
        *,
        adopt: bool = True,
    ) -> None:
        """Ask for the surfaces of these shapes and this mix; those known so far serve until they come.

        Without ``adopt`` they are only asked for, to be there when they are needed. Raises Hold when the first one
        cannot be computed and none is known.
        """
        for index, one in enumerate(models):
            try:
                surface = store.get(self.question(one, spec, mix))
            except Exception as error:  # whatever the worker process died of
                if index == 0 and one.name not in self.surfaces:
                    message = (
                        f"the latency model cannot be computed, it is tried again: {error or type(error).__name__}"
                    )
                    raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message) from error
                continue
            if surface is not None and adopt:
                self.surfaces[one.name] = surface

    def question(self, models: ShapeModels, spec: LLMServiceSpec, mix: LengthMix) -> SurfaceQuestion:
        """What has to be simulated to know the shape under this load.

        Asked in every tick, and mostly only the mix is another one.
        """
        asked = self._asked.get(models.name)
        if asked is None or asked.models is not models or (asked.slo, asked.clock) != (spec.slo, spec.gpu_clock):
            question = surface_question(models, spec, mix)
            asked = self._asked[models.name] = _Asked(question, models, spec.slo, spec.gpu_clock)
        return asked.question.about(mix)


@functools.lru_cache(maxsize=_MOST_MODELS)
def shape_models(vllm: VllmSettings, product: str, *, name: str | None = None) -> ShapeModels:
    """Profile and engine settings of replicas with these flags. Raises InvalidInputError."""
    replica = find_replica(
        vllm.model, product, vllm.tensor_parallel_size, quantization=vllm.quantization, dtype=vllm.dtype
    )
    return ShapeModels(name or shape_name(vllm.tensor_parallel_size), replica, engine_settings(vllm, replica))


@functools.lru_cache(maxsize=_MOST_MODELS)
def with_replica(models: ShapeModels, replica: ReplicaProfile) -> ShapeModels:
    """The same with another replica, such as one with factors that were learnt; always the same object."""
    return replace(models, replica=replica)


def surface_question(models: ShapeModels, spec: LLMServiceSpec, mix: LengthMix) -> SurfaceQuestion:
    """What has to be simulated to know what a shape carries and draws under these requests."""
    target = spec.slo.attainment_target
    return SurfaceQuestion(
        replica=models.replica,
        settings=models.engine,
        mix=mix,
        cv=PRIOR_CV,
        objectives=latency_objectives(spec.slo),
        attainments=(target, planned_attainment(target)),
        clocks_mhz=tuple(clock_grid(models.replica, spec.gpu_clock.min_megahertz)),
    )
