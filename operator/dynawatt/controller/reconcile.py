"""One tick of one LLMService: look, plan when it is time, act as far as the user allows, report.

Whatever cannot be known holds everything as it is: no error here ever leads to
fewer replicas or lower clocks than before.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dynawatt.adapters.kubernetes.client import API_ERRORS, describe_error
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.adapters.vllm_metrics import LoadObservation, observe
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob, LLMServiceSpec, Mode
from dynawatt.api.llmservice_status import LLMServiceStatus, ShapeStatus
from dynawatt.controller.actuation import Actuator, foreign_writer
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.judging import judge_slo
from dynawatt.controller.lease import LeaseHolder
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.surfaces import SurfaceKey, SurfaceStore
from dynawatt.controller.target import Target, TargetError, read_target, ready_since
from dynawatt.errors import InvalidInputError
from dynawatt.forecast.recent_peak import RecentPeakForecast
from dynawatt.perfmodel.catalog import ReplicaModels, UnknownProfileError, replica_models
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.fleet import FleetPlanner
from dynawatt.planning.plan import ServiceState
from dynawatt.ports import MetricsSource, MetricsUnavailable
from dynawatt.simulation.surfaces import clock_grid
from dynawatt.workload.mix import blend
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.synthetic import azure_conversation_mix

_PRODUCT_LABEL = "nvidia.com/gpu.product"
_DEFAULT_STARTUP_S = 300.0
_PRIOR_MIX = azure_conversation_mix(512, seed=0)
"""What a service is taken for until its own requests tell."""
_PRIOR_REQUESTS = 20.0
"""How many requests the prior weighs as much as."""

_log = logging.getLogger(__name__)


class Hold(Exception):  # noqa: N818 - not an error: this tick ends here and nothing is changed
    """Nothing can be decided now; says which condition is why."""

    def __init__(self, type_: ConditionType, status: bool | None, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.condition = (type_, status, reason, message)
        self.reason = reason


class Reconciler:
    """Everything the handlers need, and the services as remembered between ticks."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        metrics: MetricsSource,
        lease: LeaseHolder,
        surfaces: SurfaceStore,
        settings: OperatorSettings,
    ) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._lease = lease
        self._surfaces = surfaces
        self._settings = settings
        self._planner = FleetPlanner()
        self._actuator = Actuator(cluster, lease.name)
        self._services: dict[str, ServiceRuntime] = {}

    async def tick(self, body: Mapping[str, Any]) -> LLMServiceStatus | None:
        """Look at one LLMService and act; the status to write, or None when another operator acts."""
        if not self._lease.held:
            _log.info("service=%s waiting for lease holder=%s", body["metadata"]["name"], self._lease.holder)
            return None
        metadata = body["metadata"]
        runtime = self._runtime(metadata["uid"], metadata["namespace"], metadata["name"])
        # The body may be older than the last write; this operator is the only writer.
        found = runtime.status.to_dict() if runtime.status else body.get("status") or {}
        draft = StatusDraft.of(found, generation=metadata.get("generation", 0), now=datetime.now(UTC))
        try:
            await self._reconcile(runtime, LLMServiceSpec.parse(body["spec"]), draft)
        except InvalidInputError as error:
            draft.set(ConditionType.READY, False, Reason.INVALID_SPEC, str(error))
        except TargetError as error:
            runtime.state = None
            draft.set(ConditionType.READY, False, error.reason, str(error))
        except Hold as hold:
            runtime.state = None
            draft.set(*hold.condition)
            draft.set(ConditionType.READY, False, hold.reason, f"holding: {hold}")
        except API_ERRORS as error:
            draft.set(ConditionType.READY, False, Reason.API_ERROR, f"Kubernetes API: {describe_error(error)}")
        runtime.status = draft.status
        return draft.status

    def close(self) -> None:
        """Stop the worker process."""
        self._surfaces.close()

    async def give_back(self, body: Mapping[str, Any]) -> bool:
        """Undo everything for a deleted LLMService; False when it must be tried again. Raises API_ERRORS."""
        if not self._lease.held:
            return False
        metadata = body["metadata"]
        runtime = self._runtime(metadata["uid"], metadata["namespace"], metadata["name"])
        found = runtime.status.to_dict() if runtime.status else body.get("status") or {}
        draft = StatusDraft.of(found, generation=metadata.get("generation", 0), now=datetime.now(UTC))
        try:
            spec = LLMServiceSpec.parse(body["spec"])
            target = await self._read_target(metadata["namespace"], spec)
        except (InvalidInputError, TargetError):
            target = None
        await self._actuator.give_back(target, draft, "the LLMService was deleted")
        runtime.status = draft.status
        if draft.status.adopted is not None:
            return False
        del self._services[metadata["uid"]]
        return True

    def _runtime(self, uid: str, namespace: str, name: str) -> ServiceRuntime:
        if uid not in self._services:
            forecast = RecentPeakForecast(window_s=self._settings.peak_window_s)
            self._services[uid] = ServiceRuntime(namespace, name, forecast)
        return self._services[uid]

    async def _reconcile(self, runtime: ServiceRuntime, spec: LLMServiceSpec, draft: StatusDraft) -> None:
        if spec.paused:
            draft.set(ConditionType.READY, True, Reason.PAUSED, "`paused` is true: everything is held as it is")
            return
        target = await self._read_target(runtime.namespace, spec)
        await self._report_target(runtime, spec, target, draft)
        if spec.mode is not Mode.AUTO:
            await self._actuator.give_back(target, draft, f"`mode` is {spec.mode}")
        if spec.mode is Mode.OFF:
            runtime.state = runtime.plan = None
            self._report_clocks(spec, draft)
            draft.set(ConditionType.READY, True, Reason.SWITCHED_OFF, "`mode` is Off: nothing is planned or changed")
            return
        await self._report_conflicts(runtime, spec, target, draft)
        runtime.state = await self._look(runtime, spec, target, draft)
        self._plan_if_due(runtime, draft)
        if runtime.plan is not None and spec.mode is Mode.AUTO:
            await self._actuator.carry_out(runtime.key, spec, target, runtime.plan, draft)
        self._report_clocks(spec, draft)
        reason = Reason.RECONCILED if spec.mode is Mode.AUTO else Reason.RECOMMENDING
        does = "acting on" if spec.mode is Mode.AUTO else "recommending"
        draft.set(ConditionType.READY, True, reason, f"{does} the last decision")

    async def _read_target(self, namespace: str, spec: LLMServiceSpec) -> Target:
        name = spec.deployment_ref.name
        deployment = await asyncio.to_thread(self._cluster.deployment, namespace, name)
        pods = []
        if deployment is not None:
            pods = await asyncio.to_thread(self._cluster.pods, namespace, deployment["spec"]["selector"])
        return read_target(deployment, pods, name=name, container=spec.container)

    async def _report_target(
        self, runtime: ServiceRuntime, spec: LLMServiceSpec, target: Target, draft: StatusDraft
    ) -> None:
        ready, desired = len(target.serving_pods), target.replicas
        before = draft.status.shapes[0].clock if draft.status.shapes else None
        draft.status.shapes = [
            ShapeStatus(
                gpu_product=await self._gpu_product(runtime, target) or "unknown",
                tensor_parallel_size=target.settings.tensor_parallel_size,
                desired_replicas=desired,
                ready_replicas=ready,
                clock=before if spec.mode is Mode.AUTO and Knob.CLOCK in spec.knobs else None,
            )
        ]
        if ready == desired:
            draft.set(ConditionType.PROGRESSING, False, Reason.STEADY, f"{ready} replicas are Ready")
        else:
            draft.set(ConditionType.PROGRESSING, True, Reason.SCALING, f"{ready} of {desired} replicas are Ready")
        if target.drain_problem is None:
            draft.set(ConditionType.DRAIN_CONFIGURED, True, Reason.DRAIN_SET_UP, "pods finish their requests")
        else:
            draft.set(ConditionType.DRAIN_CONFIGURED, False, Reason.DRAIN_NOT_CONFIGURED, target.drain_problem)

    async def _gpu_product(self, runtime: ServiceRuntime, target: Target) -> str | None:
        names = [pod["spec"]["nodeName"] for pod in target.live_pods]
        if not names:
            return None
        if names[0] not in runtime.nodes:
            node = await asyncio.to_thread(self._cluster.node, names[0])
            if node is None:
                return None
            runtime.nodes[names[0]] = node
        label: str | None = (runtime.nodes[names[0]]["metadata"].get("labels") or {}).get(_PRODUCT_LABEL)
        return label

    async def _report_conflicts(
        self, runtime: ServiceRuntime, spec: LLMServiceSpec, target: Target, draft: StatusDraft
    ) -> None:
        """Raises Hold when somebody else scales: there is no fight."""
        hpas = await asyncio.to_thread(self._cluster.autoscalers, runtime.namespace, spec.deployment_ref.name)
        if hpas and Knob.REPLICAS in spec.knobs:
            message = (
                f"HorizontalPodAutoscaler {', '.join(hpas)} scales the same Deployment: delete it, "
                "or take Replicas out of `spec.knobs`"
            )
            raise Hold(ConditionType.CONFLICTING, True, Reason.SCALED_BY_HPA, message)
        writer = foreign_writer(target, draft.status.adopted)
        if writer is not None and Knob.REPLICAS in spec.knobs and draft.status.adopted is not None:
            message = (
                f"{writer!r} set {target.replicas} replicas after dynawatt asked for {draft.status.adopted.commanded}: "
                'stop it from doing so, then set `mode` to "Off" and back to start from the present number'
            )
            raise Hold(ConditionType.CONFLICTING, True, Reason.FOREIGN_WRITE, message)
        draft.set(ConditionType.CONFLICTING, False, Reason.NO_CONFLICT, "nobody else changes the replicas")

    async def _look(
        self, runtime: ServiceRuntime, spec: LLMServiceSpec, target: Target, draft: StatusDraft
    ) -> ServiceState:
        """Observe and model the service. Raises Hold."""
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
        runtime.forecast.observe(time.monotonic(), load.rate_rps)
        models = self._models(target, draft)
        surface = self._surface(spec, target, models, load)
        if load.mix is None and runtime.surface is None:
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NO_LOAD_YET, "no request has finished yet")
        runtime.surface = surface or runtime.surface
        if runtime.surface is None:
            message = "the latency model of this load is being computed"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.NOT_PLANNED_YET, message)
        startup_s = target.startup_s(_DEFAULT_STARTUP_S)
        react_s, window_s = self._settings.observe_interval_s, self._settings.rate_window_s
        return ServiceState(
            surface=runtime.surface,
            demand_rps=runtime.forecast.demand_rps(startup_s + react_s, window_s) or 0.0,
            present_demand_rps=runtime.forecast.demand_rps(react_s, window_s, memory_s=window_s) or 0.0,
            ready_replicas=len(target.serving_pods),
            desired_replicas=target.replicas,
            min_replicas=spec.replicas.min,
            max_replicas=spec.replicas.max,
            attainment=spec.slo.attainment_target,
            startup_s=startup_s,
            may_scale=Knob.REPLICAS in spec.knobs and target.drain_problem is None,
            may_set_clock=Knob.CLOCK in spec.knobs,
        )

    def _surface(
        self, spec: LLMServiceSpec, target: Target, models: ReplicaModels, load: LoadObservation
    ) -> Surface | None:
        """The surface of the present mix, once it is computed; few requests count little against the prior."""
        mix = _PRIOR_MIX
        if load.mix is not None:
            mix = blend([(load.mix, load.finished_requests), (_PRIOR_MIX, _PRIOR_REQUESTS)])
        key = SurfaceKey(
            model=target.settings.model,
            gpu=models.gpu.name,
            tensor_parallel=models.tensor_parallel,
            max_num_batched_tokens=target.max_num_batched_tokens,
            max_num_seqs=target.max_num_seqs,
            clocks_mhz=tuple(clock_grid(models, spec.gpu_clock.min_megahertz)),
            objectives=_objectives(spec),
            mix_bin=mix.bin(),
        )
        return self._surfaces.get(key, mix)

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

    def _plan_if_due(self, runtime: ServiceRuntime, draft: StatusDraft) -> None:
        """Plan all services at the interval, and at once when this one left what its plan was made for."""
        now_s = time.monotonic()
        due = now_s - runtime.planned_s >= self._settings.plan_interval_s
        if not (due or runtime.outgrown()):
            return
        states = {uid: service.state for uid, service in self._services.items() if service.state is not None}
        for uid, plan in self._planner.plan(states).items():
            self._services[uid].adopt_plan(plan, now_s)
        chosen = runtime.plan
        if chosen is None:
            return
        draft.decide(chosen)
        reachable = f"{chosen.chosen.attainment:.0%} of requests within the objectives at the planned load"
        reason = Reason.PLAN_FOUND if chosen.feasible else Reason.SLO_UNREACHABLE
        draft.set(ConditionType.SLO_ATTAINABLE, chosen.feasible, reason, reachable)

    def _report_clocks(self, spec: LLMServiceSpec, draft: StatusDraft) -> None:
        claimed = draft.status.shapes[0].clock if draft.status.shapes else None
        if Knob.CLOCK not in spec.knobs:
            draft.set(ConditionType.CLOCKS_GOVERNED, False, Reason.CLOCK_KNOB_OFF, "`knobs` does not contain Clock")
        elif claimed is None:
            draft.set(ConditionType.CLOCKS_GOVERNED, False, Reason.NO_CLAIMS, "all GPUs run at their default clocks")
        else:
            message = f"claimed for {claimed} MHz; the agents report what is applied in their GPUNodes"
            draft.set(ConditionType.CLOCKS_GOVERNED, True, Reason.CLAIMS_APPLIED, message)


def _objectives(spec: LLMServiceSpec) -> LatencyObjectives:
    ttft = tuple((entry.max_input_tokens, entry.milliseconds / 1000) for entry in spec.slo.time_to_first_token)
    return LatencyObjectives(ttft=ttft, tbt_s=spec.slo.tbt_objective_s)
