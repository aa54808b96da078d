"""What the planner is told about one service: measured load, latency models of its shapes, limits."""

import asyncio
import logging
import time
from typing import Final

import numpy as np

from dynawatt.adapters.objectives import latency_objectives
from dynawatt.adapters.vllm_load.source import LoadObservation, LoadQuestion, LoadSource
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob
from dynawatt.controller.choosing import ShapeChoice, is_barred
from dynawatt.controller.claiming import ClockTerms, single_ttft_ms
from dynawatt.controller.draft import Hold
from dynawatt.controller.judging import judge_slo
from dynawatt.controller.observing import load_question
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.shape_models import (
    PRIOR_MIX,
    ShapeModels,
    shape_models,
)
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.target import ShapedWorkload
from dynawatt.controller.tick import Tick
from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import SLOT_S, WEEK_SLOTS
from dynawatt.planning.curves import ShapeCurve
from dynawatt.planning.governor_table import governor_table
from dynawatt.planning.service import ServicePlan, ServiceState
from dynawatt.ports import MetricsUnavailable
from dynawatt.workload.mix import blend

_PRIOR_REQUESTS: Final = 20.0
"""How many finished requests the prior weighs as much as."""
OVERDUE: Final = 4.0
"""A pod that takes so many times longer to start than usual is not counted on."""

_log = logging.getLogger(__name__)


class Modeller:
    """Turns metrics and a target into the state that is planned for; whatever it cannot know is a Hold."""

    def __init__(
        self, source: LoadSource, surfaces: SurfaceStore, choice: ShapeChoice, settings: OperatorSettings
    ) -> None:
        self._source = source
        self._choice = choice
        self._surfaces = surfaces
        self._settings = settings

    async def look(self, tick: Tick, *, may_scale: bool) -> ServiceState:
        """Observe and model the service. Raises Hold."""
        runtime, spec, target = tick.runtime, tick.spec, tick.target
        runtime.models = _present_models(tick) | await self._choice.further(tick)
        book, models = runtime.book, list(runtime.models.values())
        if not book.surfaces:
            # Is ready by the time it is needed, if all goes well.
            book.update(self._surfaces, models, spec, PRIOR_MIX, adopt=False)
        load = await self._observe(tick)
        if load.mix is not None:
            runtime.mix = blend([(load.mix, load.finished_requests), (PRIOR_MIX, _PRIOR_REQUESTS)])
            book.update(self._surfaces, models, spec, runtime.mix)
        elif runtime.mix is None:
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NO_LOAD_YET, "no request has finished yet")
        runtime.load.observe(time.time(), load.rate_rps)
        runtime.burst_rps, runtime.observed = load.burst_rps, load
        if any(workload.shape not in book.surfaces for workload in target.workloads if _counts(workload)):
            message = "the latency model of this load is being computed"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message)
        if runtime.load.watched_s() < self._settings.rate_window_s:
            message = f"the load must be observed for {self._settings.rate_window_s} s before it is planned for"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message)
        return self._state(tick, may_scale=may_scale)

    def _state(self, tick: Tick, *, may_scale: bool) -> ServiceState:
        runtime, spec, target, draft = tick.runtime, tick.spec, tick.target, tick.draft
        curves = self._curves(tick)
        # Shorter than a peak is remembered, the load is not known well enough to take replicas away.
        unknown = runtime.load.watched_s() < self._settings.peak_window_s
        most = spec.replicas.max if may_scale else target.replicas
        demand = runtime.load.demand(time.time(), max(curve.capacity_rps(most) for curve in curves.values()))
        assert demand is not None  # it was observed
        ready, starting = {}, {}
        for workload in target.workloads:
            if workload.shape not in curves:
                continue
            overdue = len(workload.overdue_pods(OVERDUE * curves[workload.shape].startup_s, time.time()))
            ready[workload.shape] = min(len(workload.serving_pods), workload.replicas)
            starting[workload.shape] = max(0, workload.replicas - ready[workload.shape] - overdue)
        return ServiceState(
            curves=curves,
            ready=ready,
            starting=starting,
            demand=demand,
            present_rps=max(runtime.load.present_rps, runtime.burst_rps),
            min_replicas=min(max(spec.replicas.min, target.replicas if unknown else 0), spec.replicas.max),
            max_replicas=spec.replicas.max,
            max_gpus=spec.max_gpus,
            attainment=spec.slo.attainment_target,
            may_scale=may_scale,
            may_reshape=may_scale and Knob.SHAPE in spec.knobs and not unknown,
            may_set_clock=Knob.CLOCK in spec.knobs,
            since_change_s=draft.since_scaled_s,
        )

    def _curves(self, tick: Tick) -> dict[str, ShapeCurve]:
        """Of all shapes whose latency model is there, without empty ones that failed to start."""
        runtime, spec, target = tick.runtime, tick.spec, tick.target
        present = {workload.shape: workload for workload in target.workloads}
        usual_s = target.template.startup_s(next(iter(runtime.models.values())).replica.model.startup_s)
        curves = {}
        for name, models in runtime.models.items():
            workload = present.get(name)
            avoided = workload is not None and not _counts(workload) and is_barred(tick, workload.name)
            if name in runtime.book.surfaces and not avoided:
                curves[name] = runtime.book.curve(
                    models,
                    attainment=spec.slo.attainment_target,
                    startup_s=usual_s if workload is None else workload.startup_s(usual_s),
                    most_replicas=max(spec.replicas.max, target.replicas),
                )
        return curves

    def clock_terms(self, tick: Tick, plan: ServicePlan) -> dict[str, ClockTerms]:
        """By what the agents may govern the pods of each shape; without those where no clock meets the SLO."""
        runtime, spec, target = tick.runtime, tick.spec, tick.target
        if runtime.mix is None:
            return {}
        found = {}
        for workload in target.workloads:
            models, surface = runtime.models[workload.shape], runtime.book.surfaces.get(workload.shape)
            planned = plan.replicas if workload.shape == plan.shape else workload.replicas
            if surface is None:
                continue
            try:
                table = governor_table(
                    surface,
                    models.replica,
                    models.engine,
                    runtime.mix,
                    latency_objectives(spec.slo),
                    attainment=spec.slo.attainment_target,
                    replicas=min(len(target.serving_pods), planned) or max(planned, 1),
                    urgent_first=False,  # nothing sends priorities yet
                    judges_ttft=single_ttft_ms(spec.slo) is not None,
                )
            except InvalidInputError:
                continue
            found[workload.shape] = ClockTerms(models.replica.gpu.default_clock_mhz, table)
        return found

    async def _observe(self, tick: Tick) -> LoadObservation:
        question = load_question(tick, self._settings, time.time())
        try:
            load = await self._source.observe(question)
        except MetricsUnavailable as error:
            raise Hold(ConditionType.METRICS_AVAILABLE, False, Reason.METRICS_QUERY_FAILED, str(error)) from error
        tick.draft.set(ConditionType.METRICS_AVAILABLE, True, Reason.METRICS_FRESH, "all queries answered")
        judge_slo(tick.draft, tick.spec.slo, load)
        if tick.runtime.load.may_learn:
            await self._learn(tick.runtime, question)
        return load

    async def _learn(self, runtime: ServiceRuntime, question: LoadQuestion) -> None:
        """Let the forecast begin with what Prometheus has kept; it goes without when that cannot be had."""
        until_s = time.time() - self._settings.rate_window_s  # the first observation reaches so far back
        try:
            start_s, requests = await self._source.history(
                question, until_s=until_s, slot_s=round(SLOT_S), slots=WEEK_SLOTS
            )
            learnt = await asyncio.to_thread(runtime.load.learn, start_s, requests)
            runtime.accounts.peak.learn(start_s, requests.tolist())
        except (MetricsUnavailable, ValueError) as error:
            _log.warning("service=%s history=none error=%r", runtime.key, str(error))
        else:
            _log.info("service=%s history_slots=%d learnt=%s", runtime.key, np.isfinite(requests).sum(), learnt)


def _present_models(tick: Tick) -> dict[str, ShapeModels]:
    """Of the shapes that are there, the user's own first. Raises Hold."""
    target, product = tick.target, tick.runtime.product
    try:
        found = {
            workload.shape: shape_models(workload.settings, product, name=workload.shape)
            for workload in target.workloads
        }
    except InvalidInputError as error:
        raise Hold(ConditionType.PROFILE_AVAILABLE, False, Reason.NO_PROFILE, str(error)) from error
    message = f"profile {found[target.template.shape].replica.name}"
    tick.draft.set(ConditionType.PROFILE_AVAILABLE, True, Reason.PROFILE_FOUND, message)
    return found


def _counts(workload: ShapedWorkload) -> bool:
    """Whether the planner has to know of it: a sibling that was scaled to nothing may come back later."""
    return bool(workload.replicas or workload.serving_pods)
