"""One tick of one LLMService: look, plan when it is time, act as far as the user allows, report.

Whatever cannot be known holds everything as it is: no error here ever leads to
fewer replicas or lower clocks than before.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dynawatt.adapters.kubernetes.client import API_ERRORS, KubernetesObject, describe_error
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.adapters.kubernetes.mirror import Mirror
from dynawatt.adapters.vllm_load.source import LoadSource
from dynawatt.api.conditions import ConditionType, Reason, find_condition
from dynawatt.api.llmservice import Knob, LLMServiceSpec, Mode, Scaler
from dynawatt.controller.calibrating import Calibrator
from dynawatt.controller.choosing import ShapeChoice
from dynawatt.controller.clocks import ServiceClocks
from dynawatt.controller.conflicts import autoscaler_conflict, foreign_conflict, left_by_predecessor
from dynawatt.controller.draft import Hold, StatusDraft
from dynawatt.controller.evaluating import Evaluator, clock_is_off
from dynawatt.controller.figuring import figures_of
from dynawatt.controller.giving_back import GivingBack
from dynawatt.controller.inventory import Inventories, Inventory
from dynawatt.controller.lease import LeaseHolder
from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.metrics.figures import Figures, ServiceKey
from dynawatt.controller.metrics.working import Work
from dynawatt.controller.modelling import Modeller
from dynawatt.controller.planning_round import PlanningRound
from dynawatt.controller.reporting import report_clocks, report_plan, report_target
from dynawatt.controller.rollout import Rollout
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.scaling import Scaling
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.silent_agents import SilentAgents, stuck_clocks
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.switch import Switch
from dynawatt.controller.target import Target, TargetError, Workload, read_target, read_workload
from dynawatt.controller.tick import Tick
from dynawatt.errors import InvalidInputError
from dynawatt.planning.service import CANNOT_PLAN, ServicePlan

_log = logging.getLogger(__name__)


class Reconciler:
    """Everything the handlers need, and the services as remembered between ticks."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        view: Mirror,
        source: LoadSource,
        lease: LeaseHolder,
        switch: Switch,
        surfaces: SurfaceStore,
        evaluator: Evaluator,
        calibrator: Calibrator,
        agents: SilentAgents,
        figures: Figures,
        work: Work,
        settings: OperatorSettings,
    ) -> None:
        """What it reads and writes with; ``source`` tells the load, ``evaluator`` the energy, ``agents`` which died."""
        self._view = view
        self._evaluator = evaluator
        self._calibrator = calibrator
        self._agents = agents
        self._figures = figures
        self._lease = lease
        self._switch = switch
        self._surfaces = surfaces
        self._settings = settings
        self._round = PlanningRound(settings, work)
        self._modeller = Modeller(source, surfaces, ShapeChoice(cluster), calibrator.learnt, settings)
        self._clocks = ServiceClocks(cluster, lease.name)
        scaling = Scaling(cluster, view)
        self._rollout = Rollout(scaling, view, elastic_nodes=settings.elastic_nodes)
        self._giving_back = GivingBack(
            scaling, view, timeout_s=settings.give_back_timeout_s, elastic_nodes=settings.elastic_nodes
        )
        self._inventories = Inventories()
        self._services: dict[str, ServiceRuntime] = {}

    async def tick(self, body: Mapping[str, Any]) -> StatusDraft | None:
        """Look at one LLMService and act; the status to write, or None when this operator must not act."""
        runtime = self._runtime(body)
        async with runtime.lock:
            if runtime.deleted:
                return None
            if not self._lease.held:
                self._figures.clear()  # or the desired replicas of two operators would add up
                _log.debug("service=%s waiting for lease holder=%s", runtime.key, self._lease.holder)
                return None
            draft = _draft(runtime, body)
            spec, held = None, True
            try:
                spec = LLMServiceSpec.parse(body["spec"])
                if self._switch.gives_back:
                    spec = spec.model_copy(update={"mode": Mode.OFF, "paused": False})
                if self._may_act(runtime, draft):
                    await self._reconcile(runtime, spec, draft)
                    held = False
            except InvalidInputError as error:
                draft.set(ConditionType.READY, False, Reason.INVALID_SPEC, str(error))
            except TargetError as error:
                draft.set(ConditionType.READY, False, error.reason, str(error))
            except Hold as hold:
                draft.set(*hold.condition)
                draft.set(ConditionType.READY, False, hold.reason, f"holding: {hold}")
            except API_ERRORS as error:
                draft.set(ConditionType.READY, False, Reason.API_ERROR, f"Kubernetes API: {describe_error(error)}")
            if held:
                runtime.state = None
            runtime.status = draft.status
            self._tell(runtime, spec, draft, held=held)
            return draft

    def _may_act(self, runtime: ServiceRuntime, draft: StatusDraft) -> bool:
        """Whether anything may be changed, and on what is known of the cluster."""
        if self._switch.off:  # the agents have let the clocks go; what runs goes on running
            runtime.forget_plan()
            runtime.terms, runtime.terms_of, runtime.terms_from = {}, None, ()
            draft.set(ConditionType.READY, False, Reason.SWITCHED_OFF, f"nothing is changed: {self._switch.off}")
            return False
        if (problem := self._view.problem()) is not None:
            draft.set(ConditionType.READY, False, Reason.API_ERROR, f"Kubernetes API: {problem}")
            return False
        return True

    def _tell(self, runtime: ServiceRuntime, spec: LLMServiceSpec | None, draft: StatusDraft, *, held: bool) -> None:
        """Show the tick in the operator's metrics."""
        decided, before = draft.status.last_decision, draft.before.last_decision
        condition = find_condition(draft.status.conditions, ConditionType.READY)
        self._figures.put(
            ServiceKey(runtime.namespace, runtime.name),
            figures_of(runtime, spec, draft),
            decided=decided.reason if decided is not None and decided != before else None,
            held=condition.reason if held and condition is not None else None,
        )

    def close(self) -> None:
        """Stop the worker process."""
        self._surfaces.close()

    async def give_back(self, body: Mapping[str, Any], on_left: Callable[[str], None] = lambda _: None) -> bool:
        """Undo everything for a deleted LLMService; False when it must be tried again. Raises API_ERRORS.

        ``on_left`` is told of siblings that are left to serve on, because the original replicas did not come in time.
        """
        runtime = self._runtime(body)
        if not runtime.deleted:
            runtime.giving_back_since_s = None  # it may have gone on for long; now it must end in time
        runtime.deleted, runtime.state = True, None
        async with runtime.lock:
            if not self._lease.held or self._view.problem() is not None:
                return False
            draft = _draft(runtime, body)
            # Neither a spec nor a pod template that cannot be understood may keep anything from being given back.
            workload = self._read_workload(runtime.namespace, runtime.deployment)
            siblings = self._read_siblings(runtime)
            pods = [pod for one in (workload, *siblings) if one is not None for pod in one.pods]
            await self._clocks.withdraw_everywhere(runtime.key, self._view.pods(runtime.namespace), pods)
            if workload is None:  # there is nobody to give back to: all of the service was deleted
                await self._giving_back.delete(siblings)
                done = not siblings
            else:
                inventory = self._inventories.of(self._view.nodes(), self._view.pods(), self._view.gpunodes())
                runtime.product = _product(pods, inventory, draft)
                done = await self._giving_back.advance(runtime, workload, siblings, inventory, draft, gives_up=True)
            runtime.status = draft.status
            if done:
                found = find_condition(draft.status.conditions, ConditionType.PROGRESSING)
                if found is not None and found.reason == Reason.GIVE_BACK_INCOMPLETE:
                    on_left(found.message)
                self._services.pop(runtime.uid, None)
                self._figures.drop(ServiceKey(runtime.namespace, runtime.name))
            return done

    def _runtime(self, body: Mapping[str, Any]) -> ServiceRuntime:
        metadata = body["metadata"]
        uid = metadata["uid"]
        if uid not in self._services:
            self._services[uid] = ServiceRuntime(
                uid=uid,
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
        target = self._read_target(runtime, spec, draft)
        runtime.pods = {pod["metadata"]["name"]: one.shape for one in target.workloads for pod in one.pods}
        inventory = self._inventories.of(self._view.nodes(), self._view.pods(), self._view.gpunodes())
        runtime.product = _product(target.pods, inventory, draft)
        report_target(target, runtime.product, draft)
        stuck = stuck_clocks(target.serving_pods, inventory.reports, self._agents.silent)
        tick = Tick(runtime, spec, target, inventory, draft, stuck)
        if not spec.paused and not await self._withdraw(tick):
            return
        if spec.mode is Mode.OFF and not spec.paused:
            runtime.forget_plan()
            report_clocks(spec, tick.stuck, draft)
            draft.set(ConditionType.READY, True, Reason.SWITCHED_OFF, "`mode` is Off: nothing is planned or changed")
            return
        conflict = self._report_conflicts(tick)
        may_scale = spec.scales and target.drain_problem is None and conflict is None
        # Whoever scales by dynawatt_desired_replicas is told a number, and may do with it what it likes.
        advises = Knob.REPLICAS in spec.knobs and spec.replicas.scaled_by is Scaler.EXTERNAL
        state = await self._modeller.look(tick, may_scale=may_scale or (advises and target.drain_problem is None))
        await self._calibrator.look(tick)
        if spec.paused:
            runtime.forget_plan()
            draft.set(ConditionType.READY, True, Reason.PAUSED, "`paused` is true: everything is held as it is")
            return
        runtime.state = state
        await self._evaluator.look(tick, state, runtime.accounts)
        plan = await self._round.plan_for(runtime, self._services, inventory)
        if plan.reason == CANNOT_PLAN:
            raise Hold(ConditionType.SLO_ATTAINABLE, None, Reason.CANNOT_PLAN, plan.message)
        report_plan(plan, {name: one.replica.tensor_parallel for name, one in runtime.models.items()}, draft)
        if spec.mode is Mode.AUTO:
            await self._act(tick, plan, may_scale=may_scale)
        report_clocks(spec, tick.stuck, draft)
        if conflict is not None:
            draft.set(ConditionType.READY, False, *conflict)
        elif spec.mode is Mode.AUTO:
            draft.set(ConditionType.READY, True, Reason.RECONCILED, "acting on the last decision")
        else:
            draft.set(ConditionType.READY, True, Reason.RECOMMENDING, "recommending the last decision")

    async def _withdraw(self, tick: Tick) -> bool:
        """Give back what the spec no longer allows; False while that goes on, when nothing else is done."""
        runtime, spec, target, draft = tick.runtime, tick.spec, tick.target, tick.draft
        auto = spec.mode is Mode.AUTO
        if not auto or Knob.CLOCK not in spec.knobs:
            await self._clocks.withdraw(target.pods, draft)
        if auto and spec.scales and (Knob.SHAPE in spec.knobs or not target.siblings):
            runtime.giving_back_since_s = runtime.served_before = None
            return True
        if await self._giving_back.advance(
            runtime, target.template, target.siblings, tick.inventory, draft, gives_up=False
        ):
            return True
        runtime.forget_plan()
        report_clocks(spec, tick.stuck, draft)
        why = "`knobs` does not allow other shapes any longer" if auto else f"`mode` is {spec.mode}"
        draft.set(ConditionType.READY, False, Reason.GIVING_BACK, f"giving back, because {why}")
        return False

    async def _act(self, tick: Tick, plan: ServicePlan, *, may_scale: bool) -> None:
        """Clocks first, because fewer replicas need higher ones."""
        runtime, spec, target = tick.runtime, tick.spec, tick.target
        if runtime.terms_of is not plan:
            runtime.terms = self._modeller.clock_terms(tick, plan)
            runtime.terms_of = plan
        decided = self._rollout.decide(tick, plan) if may_scale else None
        if Knob.CLOCK in spec.knobs:
            drains = decided is not None and decided.drains
            braced = drains or clock_is_off(tick, tick.draft.now.timestamp())
            await self._clocks.claim(runtime.key, spec, target, runtime.terms, tick.draft, braced=braced)
        if decided is not None:
            await self._rollout.carry_out(tick, decided)

    def _read_workload(self, namespace: str, name: str) -> Workload | None:
        deployment = self._view.deployment(namespace, name)
        return None if deployment is None else read_workload(deployment, self._view.pods_of(namespace, name))

    def _read_siblings(self, runtime: ServiceRuntime) -> list[Workload]:
        found = self._view.siblings(runtime.namespace, runtime.key)
        pods = [self._view.pods_of(runtime.namespace, sibling["metadata"]["name"]) for sibling in found]
        return [read_workload(*each) for each in zip(found, pods, strict=True)]

    def _read_target(self, runtime: ServiceRuntime, spec: LLMServiceSpec, draft: StatusDraft) -> Target:
        """Raises TargetError."""
        for other in self._services.values():
            same = other.deployment == runtime.deployment and other.namespace == runtime.namespace
            if same and not other.deleted and (other.created, other.name) < (runtime.created, runtime.name):
                message = (
                    f"LLMService {other.name!r} manages Deployment {other.deployment!r} already: delete one of both"
                )
                raise TargetError(Reason.UNSUPPORTED_DEPLOYMENT, message)
        workload = self._read_workload(runtime.namespace, runtime.deployment)
        if workload is None:  # nothing is left to give back; one that is created anew is another one
            draft.status.adopted, draft.status.shapes = None, []
        siblings = self._read_siblings(runtime)
        return read_target(workload, siblings, name=runtime.deployment, container=spec.container)

    def _report_conflicts(self, tick: Tick) -> tuple[Reason, str] | None:
        """Why the replicas are somebody else's. There is no fight, but clocks still follow the load."""
        runtime, draft, conflict = tick.runtime, tick.draft, None
        adopted = draft.status.adopted
        template, siblings = tick.target.template, tick.target.siblings
        if adopted is not None and not runtime.looked and left_by_predecessor(template, siblings, adopted):
            adopted.commanded = template.replicas
        runtime.looked = True
        if tick.spec.scales:
            scalers = self._view.autoscalers(runtime.namespace, runtime.deployment)
            conflict = autoscaler_conflict(scalers) or foreign_conflict(tick.target, adopted)
        reason, message = conflict or (Reason.NO_CONFLICT, "nobody else changes the replicas")
        draft.set(ConditionType.CONFLICTING, conflict is not None, reason, message)
        return conflict


def _product(pods: Sequence[KubernetesObject], inventory: Inventory, draft: StatusDraft) -> str:
    """The GPUs that pods run on; without pods, those they ran on last."""
    for pod in pods:
        if product := inventory.products.get(pod["spec"].get("nodeName") or ""):
            return product
    return draft.status.shapes[0].gpu_product if draft.status.shapes else "unknown"


def _draft(runtime: ServiceRuntime, body: Mapping[str, Any]) -> StatusDraft:
    """The body may be older than the last write; this operator is the only writer."""
    return StatusDraft.of(
        body.get("status") or {},
        written=runtime.status,
        generation=body["metadata"].get("generation", 0),
        now=datetime.now(UTC),
    )
