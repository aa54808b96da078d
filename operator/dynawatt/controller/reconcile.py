"""One tick of one LLMService: look, plan when it is time, act as far as the user allows, report.

Whatever cannot be known holds everything as it is: no error here ever leads to
fewer replicas or lower clocks than before.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import API_ERRORS, describe_error
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob, LLMServiceSpec, Mode
from dynawatt.controller.actuation import Actuator, expected_replicas, foreign_writer
from dynawatt.controller.draft import Hold, StatusDraft
from dynawatt.controller.lease import LeaseHolder
from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.modelling import Modeller
from dynawatt.controller.reporting import report_clocks, report_plan, report_target
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.switch import Switch
from dynawatt.controller.target import Target, TargetError, Workload, read_target, read_workload
from dynawatt.errors import InvalidInputError
from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.planning.service import CANNOT_PLAN, ServicePlan
from dynawatt.ports import MetricsSource

_PRODUCT_LABEL: Final = "nvidia.com/gpu.product"

_log = logging.getLogger(__name__)


class Reconciler:
    """Everything the handlers need, and the services as remembered between ticks."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        metrics: MetricsSource,
        lease: LeaseHolder,
        switch: Switch,
        surfaces: SurfaceStore,
        settings: OperatorSettings,
    ) -> None:
        self._cluster = cluster
        self._lease = lease
        self._switch = switch
        self._surfaces = surfaces
        self._settings = settings
        # Without a picker nothing keeps requests away from replicas that are to be parked.
        self._planner = UnitCommitmentPlanner(packs=False, dwell_s=settings.dwell_s)
        self._planning = asyncio.Lock()
        self._modeller = Modeller(metrics, surfaces, settings)
        self._actuator = Actuator(cluster, lease.name)
        self._services: dict[str, ServiceRuntime] = {}

    async def tick(self, body: Mapping[str, Any]) -> StatusDraft | None:
        """Look at one LLMService and act; the status to write, or None when this operator must not act."""
        runtime = self._runtime(body)
        async with runtime.lock:
            if runtime.deleted:
                return None
            if not self._lease.held:
                _log.debug("service=%s waiting for lease holder=%s", runtime.key, self._lease.holder)
                return None
            draft = _draft(runtime, body)
            if self._switch.off:  # the agents have let the clocks go; what runs goes on running
                runtime.forget_plan()
                runtime.terms = runtime.terms_of = None
                draft.set(ConditionType.READY, False, Reason.SWITCHED_OFF, f"nothing is changed: {self._switch.off}")
                runtime.status = draft.status
                return draft
            try:
                await self._reconcile(runtime, LLMServiceSpec.parse(body["spec"]), draft)
            except InvalidInputError as error:
                runtime.state = None
                draft.set(ConditionType.READY, False, Reason.INVALID_SPEC, str(error))
            except TargetError as error:
                runtime.state = None
                draft.set(ConditionType.READY, False, error.reason, str(error))
            except Hold as hold:
                runtime.state = None
                draft.set(*hold.condition)
                draft.set(ConditionType.READY, False, hold.reason, f"holding: {hold}")
            except API_ERRORS as error:
                runtime.state = None
                draft.set(ConditionType.READY, False, Reason.API_ERROR, f"Kubernetes API: {describe_error(error)}")
            runtime.status = draft.status
            return draft

    def close(self) -> None:
        """Stop the worker process."""
        self._surfaces.close()

    async def give_back(self, body: Mapping[str, Any]) -> bool:
        """Undo everything for a deleted LLMService; False when it must be tried again. Raises API_ERRORS."""
        runtime = self._runtime(body)
        runtime.deleted, runtime.state = True, None
        async with runtime.lock:
            if not self._lease.held:
                return False
            draft = _draft(runtime, body)
            # Neither a spec nor a pod template that cannot be understood may keep anything from being given back.
            workload = await self._read_workload(runtime)
            await self._actuator.give_back(runtime.key, runtime.namespace, workload, draft)
            runtime.status = draft.status
            if draft.status.adopted is not None:
                return False
            self._services.pop(body["metadata"]["uid"], None)
            return True

    def _runtime(self, body: Mapping[str, Any]) -> ServiceRuntime:
        metadata = body["metadata"]
        uid = metadata["uid"]
        if uid not in self._services:
            self._services[uid] = ServiceRuntime(
                namespace=metadata["namespace"],
                name=metadata["name"],
                created=metadata["creationTimestamp"],
                deployment=body["spec"]["deploymentRef"]["name"],
                load=ServiceLoad(
                    window_s=self._settings.rate_window_s,
                    remember_s=self._settings.peak_window_s,
                    time_lapse=self._settings.time_lapse,
                ),
            )
        return self._services[uid]

    async def _reconcile(self, runtime: ServiceRuntime, spec: LLMServiceSpec, draft: StatusDraft) -> None:
        target = await self._read_target(runtime, spec, draft)
        report_target(target, await self._gpu_product(runtime, target), draft)
        if not spec.paused:
            allowed = spec.knobs if spec.mode is Mode.AUTO else ()
            why = "the knob Replicas was taken away" if allowed else f"`mode` is {spec.mode}"
            await self._actuator.withdraw(allowed, target, draft, why)
        if spec.mode is Mode.OFF and not spec.paused:
            runtime.forget_plan()
            report_clocks(spec, draft)
            draft.set(ConditionType.READY, True, Reason.SWITCHED_OFF, "`mode` is Off: nothing is planned or changed")
            return
        conflict = await self._report_conflicts(runtime, spec, target, draft)
        may_scale = Knob.REPLICAS in spec.knobs and target.drain_problem is None and conflict is None
        state = await self._modeller.look(runtime, spec, target, draft, may_scale=may_scale)
        if spec.paused:
            runtime.forget_plan()
            draft.set(ConditionType.READY, True, Reason.PAUSED, "`paused` is true: everything is held as it is")
            return
        runtime.state = state
        plan = await self._plan_if_due(runtime)
        if plan.reason == CANNOT_PLAN:
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.CANNOT_PLAN, plan.message)
        report_plan(plan, draft)
        if spec.mode is Mode.AUTO:
            if runtime.terms_of is not plan:
                runtime.terms = self._modeller.clock_terms(runtime, spec, target, plan, draft)
                runtime.terms_of = plan
            await self._actuator.carry_out(
                runtime.key, spec, target, plan, draft, terms=runtime.terms, may_scale=may_scale
            )
        report_clocks(spec, draft)
        if conflict is not None:
            draft.set(ConditionType.READY, False, *conflict)
        elif spec.mode is Mode.AUTO:
            draft.set(ConditionType.READY, True, Reason.RECONCILED, "acting on the last decision")
        else:
            draft.set(ConditionType.READY, True, Reason.RECOMMENDING, "recommending the last decision")

    async def _read_workload(self, runtime: ServiceRuntime) -> Workload | None:
        deployment = await asyncio.to_thread(self._cluster.deployment, runtime.namespace, runtime.deployment)
        if deployment is None:
            return None
        pods = await asyncio.to_thread(self._cluster.pods, runtime.namespace, deployment["spec"]["selector"])
        return read_workload(deployment, pods)

    async def _read_target(self, runtime: ServiceRuntime, spec: LLMServiceSpec, draft: StatusDraft) -> Target:
        """Raises TargetError."""
        for other in self._services.values():
            same = (other.namespace, other.deployment) == (runtime.namespace, runtime.deployment)
            if same and not other.deleted and (other.created, other.name) < (runtime.created, runtime.name):
                message = (
                    f"LLMService {other.name!r} manages Deployment {other.deployment!r} already: delete one of both"
                )
                raise TargetError(Reason.UNSUPPORTED_DEPLOYMENT, message)
        workload = await self._read_workload(runtime)
        if workload is None:  # nothing is left to give back; one that is created anew is another one
            draft.status.adopted, draft.status.shapes = None, []
        return read_target(workload, name=runtime.deployment, container=spec.container)

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
    ) -> tuple[Reason, str] | None:
        """Why the replicas are somebody else's. There is no fight, but clocks still follow the load."""
        conflict = await self._find_conflict(runtime, target, draft) if Knob.REPLICAS in spec.knobs else None
        reason, message = conflict or (Reason.NO_CONFLICT, "nobody else changes the replicas")
        draft.set(ConditionType.CONFLICTING, conflict is not None, reason, message)
        return conflict

    async def _find_conflict(
        self, runtime: ServiceRuntime, target: Target, draft: StatusDraft
    ) -> tuple[Reason, str] | None:
        hpas = await asyncio.to_thread(self._cluster.autoscalers, runtime.namespace, runtime.deployment)
        if hpas:
            message = (
                f"HorizontalPodAutoscaler {', '.join(hpas)} scales the same Deployment: delete it, "
                "or take Replicas out of `spec.knobs`"
            )
            return Reason.SCALED_BY_HPA, message
        adopted = draft.status.adopted
        writer = foreign_writer(target, adopted)
        if writer is None or adopted is None:
            return None
        message = (
            f"{writer!r} set {target.replicas} replicas after dynawatt asked for {expected_replicas(adopted)}: "
            'stop it from doing so, then set `mode` to "Off" and back to start from the present number'
        )
        return Reason.FOREIGN_WRITE, message

    async def _plan_if_due(self, runtime: ServiceRuntime) -> ServicePlan:
        """Plan all services at the interval, and at once when this one left what its plan was made for."""
        async with self._planning:
            now_s = time.monotonic()
            due = now_s - runtime.planned_s >= self._settings.plan_interval_s
            if runtime.plan is None or due or runtime.outgrown(now_s):
                states = {uid: service.state for uid, service in self._services.items() if service.state is not None}
                # Many services take seconds, and the Lease is to be renewed meanwhile. Which GPUs are free nobody
                # knows for a cluster that may add nodes: as many can be had as are wanted.
                plans = await asyncio.to_thread(self._planner.plan, states, None)
                for uid, plan in plans.items():
                    if (service := self._services.get(uid)) is not None and service.state is not None:
                        service.adopt_plan(plan, states[uid], now_s)
        if runtime.plan is None:
            message = "it is being deleted: nothing more is planned"
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.GIVING_BACK, message)
        return runtime.plan


def _draft(runtime: ServiceRuntime, body: Mapping[str, Any]) -> StatusDraft:
    """The body may be older than the last write; this operator is the only writer."""
    return StatusDraft.of(
        body.get("status") or {},
        written=runtime.status,
        generation=body["metadata"].get("generation", 0),
        now=datetime.now(UTC),
    )
