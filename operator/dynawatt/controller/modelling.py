"""What the planner is told about one service: measured load, latency model, limits."""

import asyncio
import logging
import time
from typing import Final

import numpy as np

from dynawatt.adapters.engine_settings import engine_settings
from dynawatt.adapters.objectives import latency_objectives
from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.vllm_metrics import LoadObservation, arrivals_before, observe
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.controller.claiming import ClockTerms, single_ttft_ms
from dynawatt.controller.draft import Hold, StatusDraft
from dynawatt.controller.judging import judge_slo
from dynawatt.controller.runtime import CurveOf, ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.target import Target, ready_since
from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import SLOT_S, WEEK_SLOTS
from dynawatt.perfmodel.profile import ReplicaProfile
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.attainment import planned_attainment
from dynawatt.planning.curves import ShapeCurve, shape_curve
from dynawatt.planning.governor_table import governor_table
from dynawatt.planning.service import ServicePlan, ServiceState
from dynawatt.ports import MetricsSource, MetricsUnavailable
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import clock_grid
from dynawatt.workload.builtin import built_in
from dynawatt.workload.mix import LengthMix, blend

_PRIOR: Final = built_in("azure-2023-conv")
PRIOR_MIX: Final = _PRIOR.mix(512)
"""What a service is taken for until its own requests tell."""
PRIOR_CV: Final = _PRIOR.interarrival_cv
"""And its burstiness, the CV of the gaps between requests: vLLM exports nothing that tells a service's own."""
_PRIOR_REQUESTS: Final = 20.0
"""How many finished requests the prior weighs as much as."""
_STARTS: Final = 4.0
"""A pod that takes so many times longer to start than usual is not counted on."""

_log = logging.getLogger(__name__)


class Modeller:
    """Turns metrics and a target into the state that is planned for; whatever it cannot know is a Hold."""

    def __init__(self, metrics: MetricsSource, surfaces: SurfaceStore, settings: OperatorSettings) -> None:
        self._metrics = metrics
        self._surfaces = surfaces
        self._settings = settings

    async def look(
        self, runtime: ServiceRuntime, spec: LLMServiceSpec, target: Target, draft: StatusDraft, *, may_scale: bool
    ) -> ServiceState:
        """Observe and model the service. Raises Hold."""
        models, engine = self._models(target, draft)
        if runtime.surface is None:
            self._surface(models, engine, spec, PRIOR_MIX, None)  # is ready by the time it is needed, if all goes well
        load = await self._observe(runtime, spec, target, draft)
        if load.mix is not None:
            mix = blend([(load.mix, load.finished_requests), (PRIOR_MIX, _PRIOR_REQUESTS)])
            runtime.surface, runtime.mix = self._surface(models, engine, spec, mix, runtime.surface), mix
        elif runtime.surface is None:
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NO_LOAD_YET, "no request has finished yet")
        if runtime.load.may_learn:
            await self._learn(runtime, spec)
        runtime.load.observe(time.time(), load.rate_rps)
        if runtime.surface is None:
            message = "the latency model of this load is being computed"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message)
        if runtime.load.watched_s() < self._settings.rate_window_s:
            message = f"the load must be observed for {self._settings.rate_window_s} s before it is planned for"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message)
        return self._state(runtime, spec, target, models, draft, may_scale=may_scale)

    def _state(
        self,
        runtime: ServiceRuntime,
        spec: LLMServiceSpec,
        target: Target,
        models: ReplicaProfile,
        draft: StatusDraft,
        *,
        may_scale: bool,
    ) -> ServiceState:
        # Shorter than a peak is remembered, the load is not known well enough to take replicas away.
        unknown = runtime.load.watched_s() < self._settings.peak_window_s
        curve = self._curve(runtime, spec, target, models)
        most = spec.replicas.max if may_scale else target.replicas
        demand = runtime.load.demand(time.time(), curve.capacity_rps(most))
        assert demand is not None  # it was observed
        ready = min(len(target.serving_pods), target.replicas)
        overdue = len(target.overdue_pods(_STARTS * curve.startup_s, time.time()))
        return ServiceState(
            curves={curve.name: curve},
            ready={curve.name: ready},
            starting={curve.name: max(0, target.replicas - ready - overdue)},
            demand=demand,
            present_rps=runtime.load.present_rps,
            min_replicas=min(max(spec.replicas.min, target.replicas if unknown else 0), spec.replicas.max),
            max_replicas=spec.replicas.max,
            attainment=spec.slo.attainment_target,
            may_scale=may_scale,
            may_reshape=False,
            may_set_clock=Knob.CLOCK in spec.knobs,
            since_change_s=draft.since_scaled_s,
        )

    def _curve(
        self, runtime: ServiceRuntime, spec: LLMServiceSpec, target: Target, models: ReplicaProfile
    ) -> ShapeCurve:
        """What fleets of its shape carry and draw; made again only when something about it changed."""
        surface, known = runtime.surface, runtime.curve
        assert surface is not None
        attainment = planned_attainment(spec.slo.attainment_target)
        terms = (attainment, target.startup_s(models.model.startup_s), max(spec.replicas.max, target.replicas))
        if known is None or known.surface is not surface or known.terms != terms:
            name = f"tp{surface.tensor_parallel}"
            curve = shape_curve(
                name, surface, models, attainment=attainment, startup_s=terms[1], most_replicas=terms[2]
            )
            known = runtime.curve = CurveOf(curve, surface, terms)
        return known.curve

    def clock_terms(
        self, runtime: ServiceRuntime, spec: LLMServiceSpec, target: Target, plan: ServicePlan, draft: StatusDraft
    ) -> ClockTerms | None:
        """By what the agents may govern the pods that serve; None when no clock meets the SLO at any load."""
        if runtime.surface is None or runtime.mix is None:
            return None
        models, engine = self._models(target, draft)
        try:
            table = governor_table(
                runtime.surface,
                models,
                engine,
                runtime.mix,
                latency_objectives(spec.slo),
                attainment=spec.slo.attainment_target,
                replicas=min(len(target.serving_pods), plan.replicas) or max(plan.replicas, 1),
                urgent_first=False,  # nothing sends priorities yet
                judges_ttft=single_ttft_ms(spec.slo) is not None,
            )
        except InvalidInputError:
            return None
        return ClockTerms(models.gpu.default_clock_mhz, table)

    async def _observe(
        self, runtime: ServiceRuntime, spec: LLMServiceSpec, target: Target, draft: StatusDraft
    ) -> LoadObservation:
        try:
            load = await observe(
                self._metrics,
                namespace=runtime.namespace,
                deployment=spec.deployment_ref.name,
                pods=self._scraped_pods(target),
                rate_window_s=self._settings.rate_window_s,
                mix_window_s=self._settings.mix_window_s,
            )
        except MetricsUnavailable as error:
            raise Hold(ConditionType.METRICS_AVAILABLE, False, Reason.METRICS_QUERY_FAILED, str(error)) from error
        draft.set(ConditionType.METRICS_AVAILABLE, True, Reason.METRICS_FRESH, "all queries answered")
        judge_slo(draft, spec.slo, load)
        return load

    async def _learn(self, runtime: ServiceRuntime, spec: LLMServiceSpec) -> None:
        """Let the forecast begin with what Prometheus has kept; it goes without when that cannot be had."""
        try:
            start_s, requests = await arrivals_before(
                self._metrics,
                namespace=runtime.namespace,
                deployment=spec.deployment_ref.name,
                until_s=time.time() - self._settings.rate_window_s,  # the first observation reaches so far back
                slot_s=round(SLOT_S),
                slots=WEEK_SLOTS,
            )
            learnt = await asyncio.to_thread(runtime.load.learn, start_s, requests)
        except (MetricsUnavailable, ValueError) as error:
            _log.warning("service=%s history=none error=%r", runtime.key, str(error))
        else:
            _log.info("service=%s history_slots=%d learnt=%s", runtime.key, np.isfinite(requests).sum(), learnt)

    def _scraped_pods(self, target: Target) -> list[str]:
        """Pods that have been Ready long enough for Prometheus to have scraped them."""
        now_s = time.time()
        return [
            pod["metadata"]["name"]
            for pod in target.serving_pods
            if now_s - (ready_since(pod) or now_s) > self._settings.rate_window_s
        ]

    def _models(self, target: Target, draft: StatusDraft) -> tuple[ReplicaProfile, EngineSettings]:
        product = draft.status.shapes[0].gpu_product
        vllm = target.settings
        try:
            models = find_replica(
                vllm.model, product, vllm.tensor_parallel_size, quantization=vllm.quantization, dtype=vllm.dtype
            )
            engine = engine_settings(vllm, models)
        except InvalidInputError as error:
            raise Hold(ConditionType.PROFILE_AVAILABLE, False, Reason.NO_PROFILE, str(error)) from error
        draft.set(ConditionType.PROFILE_AVAILABLE, True, Reason.PROFILE_FOUND, f"profile {models.name}")
        return models, engine

    def _surface(
        self,
        models: ReplicaProfile,
        engine: EngineSettings,
        spec: LLMServiceSpec,
        mix: LengthMix,
        known: Surface | None,
    ) -> Surface | None:
        """The surface for this mix; the one known so far while it is computed or when it cannot be."""
        target = spec.slo.attainment_target
        question = SurfaceQuestion(
            replica=models,
            settings=engine,
            mix=mix,
            cv=PRIOR_CV,
            objectives=latency_objectives(spec.slo),
            attainments=(target, planned_attainment(target)),
            clocks_mhz=tuple(clock_grid(models, spec.gpu_clock.min_megahertz)),
        )
        try:
            return self._surfaces.get(question) or known
        except Exception as error:  # whatever the worker process died of
            if known is not None:
                return known
            message = f"the latency model cannot be computed, it is tried again: {error or type(error).__name__}"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message) from error
