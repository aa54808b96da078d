"""What the planner is told about one service: measured load, latency models of its shapes, limits."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import Final

import numpy as np

from dynawatt.adapters.objectives import latency_objectives
from dynawatt.adapters.vllm_load.source import LoadObservation, LoadQuestion, LoadSource
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob
from dynawatt.controller.advising import EngineAdvisor
from dynawatt.controller.choosing import ShapeChoice
from dynawatt.controller.claiming import ClockTerms, single_ttft_ms
from dynawatt.controller.clock_ability import default_clock_because
from dynawatt.controller.draft import Hold, StatusDraft
from dynawatt.controller.judging import judge_slo
from dynawatt.controller.learnt import Learnt
from dynawatt.controller.load import forecast_of
from dynawatt.controller.observing import load_question
from dynawatt.controller.reshape_record import is_barred
from dynawatt.controller.reshape_terms import goal_of, may_reshape
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.shape_models import (
    PRIOR_MIX,
    ShapeModels,
    shape_models,
)
from dynawatt.controller.startup_budget import report_startup_budget
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.target import ShapedWorkload, Target
from dynawatt.controller.tick import Tick
from dynawatt.errors import InvalidInputError
from dynawatt.forecast.rate import RateForecast
from dynawatt.forecast.slots import SLOT_S, WEEK_SLOTS
from dynawatt.planning.curves import ShapeCurve
from dynawatt.planning.governor_table import governor_table
from dynawatt.planning.service import FixedClock, ServicePlan, ServiceState
from dynawatt.ports import MetricsUnavailable
from dynawatt.workload.mix import blend

_PRIOR_REQUESTS: Final = 20.0
"""How many finished requests the prior weighs as much as."""
OVERDUE: Final = 4.0
"""A pod that takes so many times longer to start than usual is not counted on."""

_BUSY_S: Final = 1.0
"""Between two attempts to find the worker idle."""
_SLOTS_LOST: Final = 2
"""Of those asked for: the oldest, which may be known in part, and the one that the time watched counts from."""

_log = logging.getLogger(__name__)


class Modeller:
    """Turns metrics and a target into the state that is planned for; whatever it cannot know is a Hold."""

    def __init__(
        self,
        source: LoadSource,
        surfaces: SurfaceStore,
        choice: ShapeChoice,
        learnt: Learnt,
        settings: OperatorSettings,
    ) -> None:
        self._source = source
        self._choice = choice
        self._learnt = learnt
        self._learning: set[asyncio.Task[None]] = set()
        self._one_learns = asyncio.Semaphore(1)
        self._surfaces = surfaces
        self._advisor = EngineAdvisor(surfaces)
        self._settings = settings

    async def look(self, tick: Tick, *, may_scale: bool) -> ServiceState:
        """Observe and model the service. Raises Hold."""
        runtime, spec, target = tick.runtime, tick.spec, tick.target
        known = _present_models(tick) | await self._choice.further(tick)
        runtime.models = {name: self._learnt.applied(each) for name, each in known.items()}
        self._count_starts(tick)
        report_startup_budget(tick, self._learnt_startups_s(tick))
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
        self._advisor.look(tick, may_search=not self._learning)
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
        # Shorter than a peak is remembered, the load is not known well enough to take replicas away, or to begin a
        # change of shape; one that is under way goes on.
        unknown = runtime.load.watched_s() < self._settings.peak_window_s
        if unknown:
            there = [workload.shape for workload in target.workloads if _counts(workload)]
            curves = {name: curve for name, curve in curves.items() if name in there} or curves
        most = spec.replicas.max if may_scale else target.replicas
        fixed = _fixed_clock(tick, default_mhz=max(curve.clocks_mhz[-1] for curve in curves.values()))
        usable = curves if fixed is None else fixed.limited(curves)
        demand = runtime.load.demand(time.time(), max(curve.capacity_rps(most) for curve in usable.values()))
        assert demand is not None  # it was observed
        ready, starting = {}, {}
        for workload in target.workloads:
            if workload.shape not in curves:
                continue
            usual_s = workload.startup_s(curves[workload.shape].startup_s)
            overdue = len(workload.overdue_pods(OVERDUE * usual_s, time.time()))
            ready[workload.shape] = min(len(workload.serving_pods), workload.replicas)
            starting[workload.shape] = max(0, workload.replicas - ready[workload.shape] - overdue)
        return ServiceState(
            curves=curves,
            ready=ready,
            starting=starting,
            demand=demand,
            present_rps=max(runtime.load.present_rps, runtime.burst_rps),
            min_replicas=min(max(spec.replicas.min, _kept(target, draft) if unknown else 0), spec.replicas.max),
            max_replicas=spec.replicas.max,
            max_gpus=spec.max_gpus,
            attainment=spec.slo.attainment_target,
            may_scale=may_scale,
            may_reshape=may_scale
            and may_reshape(tick, dwell_s=self._settings.reshape_dwell_s, is_load_known=not unknown),
            fixed_clock=fixed,
            since_change_s=draft.since_scaled_s,
            goal=goal_of(tick),
            nodes=tick.inventory.usable(runtime.product, tick.inventory.needs(target.workloads)),
        )

    def _curves(self, tick: Tick) -> dict[str, ShapeCurve]:
        """Of all shapes whose latency model is there, without empty ones that failed to start."""
        runtime, spec, target = tick.runtime, tick.spec, tick.target
        present = {workload.shape: workload for workload in target.workloads}
        own = runtime.models[target.template.shape]
        curves = {}
        for name, models in runtime.models.items():
            workload = present.get(name)
            avoided = workload is not None and not _counts(workload) and is_barred(tick.draft, workload.name)
            if name in runtime.book.surfaces and not avoided:
                curves[name] = runtime.book.curve(
                    models,
                    attainment=spec.slo.attainment_target,
                    startup_s=self._learnt.startup_s(models, own),
                    most_replicas=max(spec.replicas.max, target.replicas),
                )
        return curves

    def _count_starts(self, tick: Tick) -> None:
        """Learn from the pods that became Ready since the last look."""
        runtime, pods = tick.runtime, tick.target.pods
        for workload in tick.target.workloads:
            self._learnt.count_starts(runtime.models[workload.shape], workload, runtime.watch.counted)
        runtime.watch.counted &= {pod["metadata"]["uid"] for pod in pods}

    def _learnt_startups_s(self, tick: Tick) -> dict[str, float]:
        """Usual start-ups by shape, without those of which nothing but the profile tells."""
        models = tick.runtime.models
        own = models[tick.target.template.shape]
        shapes = [workload.shape for workload in tick.target.workloads]
        return {
            shape: self._learnt.startup_s(models[shape], own)
            for shape in shapes
            if any(self._learnt.of(each).state.startup.starts_s for each in (models[shape], own))
        }

    def clock_terms(self, tick: Tick, plan: ServicePlan) -> Mapping[str, ClockTerms]:
        """By what the agents may govern the pods of each shape; without those where no clock meets the SLO.

        They stay the same, to the last digit, as long as surfaces and replicas do: the lengths of requests are never
        quite the same, and claims are not rewritten for that.
        """
        runtime, spec, target = tick.runtime, tick.spec, tick.target
        if runtime.mix is None:
            return {}
        made_from: list[object] = [spec.slo, spec.gpu_clock]
        shapes = []
        for workload in target.workloads:
            models, surface = runtime.models[workload.shape], runtime.book.surfaces.get(workload.shape)
            planned = plan.replicas if workload.shape == plan.shape else workload.replicas
            if surface is None:
                continue
            replicas = min(len(target.serving_pods), planned) or max(planned, 1)
            shapes.append((workload.shape, models, surface, replicas))
        made_from += shapes
        if runtime.terms_from == made_from:
            return runtime.terms
        runtime.terms_from = made_from
        found = {}
        for name, models, surface, replicas in shapes:
            try:
                table = governor_table(
                    surface,
                    models.replica,
                    models.engine,
                    runtime.mix,
                    latency_objectives(spec.slo),
                    attainment=spec.slo.attainment_target,
                    replicas=replicas,
                    urgent_first=False,  # nothing sends priorities yet
                    judges_ttft=single_ttft_ms(spec.slo) is not None,
                )
            except InvalidInputError:
                continue
            found[name] = ClockTerms(models.replica.gpu.default_clock_mhz, table)
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
            await self._recall(tick.runtime, question)
            task = asyncio.create_task(self._learn(tick.runtime, question))
            self._learning.add(task)
            task.add_done_callback(self._learning.discard)
        return load

    async def _recall(self, runtime: ServiceRuntime, question: LoadQuestion) -> None:
        """Let the last minutes count as watched, so that a restarted operator plans at once."""
        slot_s = self._settings.rate_window_s
        slots = math.ceil(self._settings.peak_window_s / slot_s) + _SLOTS_LOST
        try:
            recent = await self._source.history(question, until_s=time.time(), slot_s=slot_s, slots=slots)
            runtime.load.recall(*recent, slot_s)
        except (MetricsUnavailable, ValueError) as error:
            _log.warning("service=%s recent=none error=%r", runtime.key, str(error))

    async def _learn(self, runtime: ServiceRuntime, question: LoadQuestion) -> None:
        """Let the forecast begin with what Prometheus has kept; it goes without when that cannot be had.

        One service after the other, while all of them are planned for: the weeks of hundreds take minutes to learn.
        """
        until_s = time.time() - self._settings.rate_window_s  # the first observation reaches so far back
        learnt = None
        try:
            async with self._one_learns:
                start_s, requests = await self._source.history(
                    question, until_s=until_s, slot_s=round(SLOT_S), slots=WEEK_SLOTS
                )
                learnt = await self._aside(partial(forecast_of, start_s, requests))
            runtime.accounts.peak.learn(start_s, requests.tolist())
            known = int(np.isfinite(requests).sum())
            _log.info("service=%s history_slots=%d learnt=%s", runtime.key, known, learnt is not None)
            until_s = start_s + len(requests) * SLOT_S
        except (MetricsUnavailable, ValueError, BrokenExecutor) as error:
            _log.warning("service=%s history=none error=%r", runtime.key, str(error))
        runtime.load.go_on_with(learnt, until_s)

    async def _aside(self, work: Callable[[], RateForecast | None]) -> RateForecast | None:
        """Done by the worker, once surfaces leave it the time."""
        while True:
            if (under_way := self._surfaces.run_aside(work)) is not None:
                return await under_way
            await asyncio.sleep(_BUSY_S)


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


def _fixed_clock(tick: Tick, *, default_mhz: int) -> FixedClock | None:
    """The only clock that the replicas can be planned at; None where their clocks can be chosen.

    The load is spread evenly, so that the slowest replica limits all of them.
    """
    stuck, has_knob = tick.stuck, Knob.CLOCK in tick.spec.knobs
    if stuck is not None and stuck.clock_mhz < default_mhz:
        return FixedClock(stuck.clock_mhz, str(stuck))
    because = default_clock_because(tick.target.live_pods, tick.inventory.reports, tick.draft.now) if has_knob else ""
    return None if has_knob and not because else FixedClock(because=because)


def _kept(target: Target, draft: StatusDraft) -> int:
    """How many replicas are there; while a shape takes over from another one, how many of the one that takes over."""
    there = {workload.name: workload.replicas for workload in target.workloads if workload.replicas}
    change = draft.status.reshape
    if change is not None and change.retry_time is None and change.to in there:
        return there[change.to]
    return min(there.values(), default=0)


def _counts(workload: ShapedWorkload) -> bool:
    """Whether the planner has to know of it: a sibling that was scaled to nothing may come back later."""
    return bool(workload.replicas or workload.serving_pods)
