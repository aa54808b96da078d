"""What the planner is told about one service: measured load, latency model, limits."""

import logging
import time
from typing import Final

from dynawatt.adapters.objectives import latency_objectives
from dynawatt.adapters.vllm_metrics import LoadObservation, observe
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.controller.draft import Hold, StatusDraft
from dynawatt.controller.judging import judge_slo
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.surfaces import SurfaceKey, SurfaceStore
from dynawatt.controller.target import Target, ready_since
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.catalog import ReplicaModels, UnknownProfileError, replica_models
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.plan import ServiceState
from dynawatt.ports import MetricsSource, MetricsUnavailable
from dynawatt.simulation.surfaces import clock_grid
from dynawatt.workload.mix import LengthMix, blend
from dynawatt.workload.synthetic import azure_conversation_mix

_DEFAULT_STARTUP_S: Final = 300.0

PRIOR_MIX: Final = azure_conversation_mix(512, seed=0)
"""What a service is taken for until its own requests tell."""
_PRIOR_REQUESTS: Final = 20.0
"""How many finished requests the prior weighs as much as."""

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
        models = self._models(target, draft)
        if runtime.surface is None:
            self._surface(models, spec, target, PRIOR_MIX, None)  # is ready by the time it is needed, if all goes well
        load = await self._observe(runtime, spec, target, draft)
        if load.mix is not None:
            mix = blend([(load.mix, load.finished_requests), (PRIOR_MIX, _PRIOR_REQUESTS)])
            runtime.surface = self._surface(models, spec, target, mix, runtime.surface)
        elif runtime.surface is None:
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NO_LOAD_YET, "no request has finished yet")
        runtime.forecast.observe(time.monotonic(), load.rate_rps)
        if runtime.surface is None:
            message = "the latency model of this load is being computed"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message)
        if runtime.forecast.observed_s < self._settings.rate_window_s:
            message = f"the load must be observed for {self._settings.rate_window_s} s before it is planned for"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message)
        # Shorter than a peak is remembered, the load is not known well enough to take replicas away.
        unknown = runtime.forecast.observed_s < self._settings.peak_window_s
        startup_s = target.startup_s(_DEFAULT_STARTUP_S)
        react_s, window_s = self._settings.observe_interval_s, self._settings.rate_window_s
        demand_rps = runtime.forecast.demand_rps(startup_s + react_s, window_s) or 0.0
        return ServiceState(
            surface=runtime.surface,
            demand_rps=demand_rps,
            lasting_demand_rps=runtime.demands.add(time.monotonic(), demand_rps),
            present_demand_rps=runtime.forecast.demand_rps(react_s, window_s, memory_s=window_s) or 0.0,
            ready_replicas=len(target.serving_pods),
            desired_replicas=target.replicas,
            min_replicas=min(max(spec.replicas.min, target.replicas if unknown else 0), spec.replicas.max),
            max_replicas=spec.replicas.max,
            attainment=spec.slo.attainment_target,
            startup_s=startup_s,
            may_scale=may_scale,
            may_set_clock=Knob.CLOCK in spec.knobs,
        )

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

    def _scraped_pods(self, target: Target) -> list[str]:
        """Pods that have been Ready long enough for Prometheus to have scraped them."""
        now_s = time.time()
        return [
            pod["metadata"]["name"]
            for pod in target.serving_pods
            if now_s - (ready_since(pod) or now_s) > self._settings.rate_window_s
        ]

    def _models(self, target: Target, draft: StatusDraft) -> ReplicaModels:
        product = draft.status.shapes[0].gpu_product
        try:
            models = replica_models(target.settings.model, product, target.settings.tensor_parallel_size)
        except (UnknownProfileError, InvalidInputError) as error:
            raise Hold(ConditionType.PROFILE_AVAILABLE, False, Reason.NO_PROFILE, str(error)) from error
        draft.set(ConditionType.PROFILE_AVAILABLE, True, Reason.PROFILE_FOUND, f"profile {models.profile}")
        return models

    def _surface(
        self, models: ReplicaModels, spec: LLMServiceSpec, target: Target, mix: LengthMix, known: Surface | None
    ) -> Surface | None:
        """The surface for this mix; the one known so far while it is computed or when it cannot be."""
        key = SurfaceKey(
            model=target.settings.model,
            gpu=models.gpu.name,
            tensor_parallel=models.tensor_parallel,
            max_num_batched_tokens=target.max_num_batched_tokens,
            max_num_seqs=target.max_num_seqs,
            clocks_mhz=tuple(clock_grid(models, spec.gpu_clock.min_megahertz)),
            objectives=latency_objectives(spec.slo),
            mix_bin=mix.bin(),
        )
        try:
            return self._surfaces.get(key, mix) or known
        except Exception as error:  # whatever the worker process died of
            _log.exception("surface model=%s mix=%s failed", key.model, key.mix_bin)
            if known is not None:
                return known
            message = f"the latency model cannot be computed, it is tried again: {error or type(error).__name__}"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message) from error
