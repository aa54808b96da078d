"""Brings the replicas of a service to what its plan asks for, one write at a time: make before break.

What is to be done next is decided anew in every tick from what is found in the
cluster (``planning.steps``), so that an operator that dies anywhere in between,
or its successor, just goes on. What has to be given back is on record in the
status before anything is changed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynawatt.adapters.kubernetes.mirror import Mirror
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.controller.adopting import adopted_as
from dynawatt.controller.counting import count_workload, node_rooms
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.modelling import OVERDUE
from dynawatt.controller.reshape_record import (
    failure_is_on_record,
    is_barred,
    note_failure,
    note_step,
    turned_away_from,
)
from dynawatt.controller.scaling import Scaling
from dynawatt.controller.shapes.shape import Shape, sibling_name
from dynawatt.controller.target import ShapedWorkload, Target
from dynawatt.controller.tick import Tick
from dynawatt.controller.windows import is_open, next_opening
from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.room import Room
from dynawatt.planning.service import ServicePlan, ServiceState
from dynawatt.planning.step import RESHAPE_FAILED, Step, StepKind
from dynawatt.planning.steps import next_step

_USUAL_STARTUP_S: Final = 300.0
"""Where neither a model nor a pod tells how long they take."""
_AWAITED: Final = (StepKind.START, StepKind.DRAIN, StepKind.WAIT)
_UNDER_WAY: Final = (*_AWAITED, StepKind.DROP)
_AT_REST: Final = (StepKind.DONE, StepKind.BLOCKED)


@dataclass(frozen=True, slots=True)
class Decided:
    """A step, and the shape that it leads to."""

    step: Step
    goal: str
    """The Deployment of that shape, which need not exist yet."""
    shape: Shape
    startup_s: float
    """Of its replicas."""
    room: Room
    """For more replicas, before the step."""

    @property
    def drains(self) -> bool:
        """Whether replicas that serve are about to stop."""
        return self.step.kind is StepKind.DRAIN


class Rollout:
    """Carries plans out."""

    def __init__(self, scaling: Scaling, view: Mirror, *, elastic_nodes: bool) -> None:
        """What writes, what reads, and whether the cluster adds nodes for pods that wait for GPUs."""
        self._scaling = scaling
        self._view = view
        self._elastic_nodes = elastic_nodes

    def decide(self, tick: Tick, plan: ServicePlan) -> Decided | None:
        """The next step towards the plan, told in the status; None where nothing can be decided."""
        runtime, spec, target, draft = tick.runtime, tick.spec, tick.target, tick.draft
        state = runtime.planned_for
        if state is None or not (plan.carried or plan.wanted):
            return None
        curve = state.curves[plan.shape]
        shape = Shape(curve.gpus, gpu_product=runtime.product)
        goal = _deployment_of(plan.shape, shape, target)
        counts = self._counts(tick, state, plan, goal)
        needed_rps = _needed_rps(state, plan)
        opened = is_open(spec.change_windows, draft.now)
        nodes = node_rooms(
            tick.inventory, runtime.product, target.workloads, self._view.pods(), elastic=self._elastic_nodes
        )
        room = Room(counts, nodes, spec.max_gpus)
        if not plan.carried:  # what carries nothing decides nothing
            _report_lack(plan, state, room, draft)
            return None
        step = next_step(
            {goal: plan.replicas},
            counts,
            nodes=nodes,
            max_gpus=spec.max_gpus,
            needed_rps=needed_rps,
            min_replicas=min(spec.replicas.min, plan.replicas),
            barred=[goal] if is_barred(draft, goal) else [],
            may_start=opened or _carried_rps(counts) < needed_rps,
            may_drain=opened,
        )
        if (in_vain := turned_away_from(draft, counts, goal)) is not None:
            goal, step = in_vain, Step(StepKind.ROLL_BACK, RESHAPE_FAILED, f"{in_vain} did not become Ready in time")
        _report(step, goal, spec, draft, is_served=counts[goal].serving > 0)
        if step.kind is StepKind.DONE:
            _report_lack(plan, state, room, draft)
        return Decided(step, goal, shape, curve.startup_s, room)

    async def carry_out(self, tick: Tick, decided: Decided) -> None:
        """Write what a step asks for. Raises API_ERRORS."""
        step, spec, target, draft = decided.step, tick.spec, tick.target, tick.draft
        if step.kind is StepKind.ROLL_BACK:
            # On record first: whoever goes on from here finds the shape barred, and takes its replicas away.
            note_failure(draft, decided.goal, step.message)
        elif step.scale is not None and (step.kind is not StepKind.DROP or failure_is_on_record(draft)):
            await self._write(tick, decided.shape, step, startup_s=decided.startup_s)
        elif step.kind in _AT_REST and is_open(spec.change_windows, draft.now):
            await self._scaling.roll(
                target,
                decided.room,
                draft,
                service=tick.runtime.key,
                container=spec.container,
                refusals=tick.runtime.refusals[1] if tick.runtime.refusals else (),
            )
        await self._scaling.protect(target.workloads, under_way=step.kind in _AWAITED)

    def _counts(self, tick: Tick, state: ServiceState, plan: ServicePlan, goal: str) -> dict[str, ShapeCount]:
        runtime = tick.runtime
        budgets, counts = self._view.budgets(runtime.namespace), {}
        for workload in tick.target.workloads:
            curve = state.curves.get(workload.shape)
            counts[workload.name] = count_workload(
                workload,
                capacity_rps=_capacity_rps(state, workload.shape, max(workload.replicas, plan.replicas)),
                overdue_s=OVERDUE * workload.startup_s(_USUAL_STARTUP_S if curve is None else curve.startup_s),
                drains=workload.drain_problem is None,
                budgets=budgets,
                now_s=time.time(),
            )
        if goal not in counts:
            each_rps = _capacity_rps(state, plan.shape, plan.replicas)
            counts[goal] = ShapeCount(gpus=state.curves[plan.shape].gpus, capacity_rps=each_rps, desired=0)
        return counts

    async def _write(self, tick: Tick, shape: Shape, step: Step, *, startup_s: float) -> None:
        target, draft = tick.target, tick.draft
        if draft.status.adopted is None:
            draft.status.adopted = adopted_as(target.template, target.siblings)
        if not draft.adopted_is_on_record:
            return
        assert step.scale is not None
        workload = _named(target, step.scale.deployment)
        if workload is None:
            await self._scaling.create(
                target.template,
                shape,
                step,
                draft,
                service=tick.runtime.key,
                container=tick.spec.container,
                startup_s=startup_s,
            )
        elif await self._scaling.scale(workload, step, draft) and workload is target.template:
            draft.status.adopted.commanded = step.scale.replicas


def _deployment_of(name: str, shape: Shape, target: Target) -> str:
    """The Deployment that runs a shape, or the one that is to."""
    workload = next((one for one in target.workloads if one.shape == name), None)
    return workload.name if workload else sibling_name(target.template.name, shape)


def _named(target: Target, deployment: str) -> ShapedWorkload | None:
    return next((one for one in target.workloads if one.name == deployment), None)


def _capacity_rps(state: ServiceState, shape: str, replicas: int) -> float:
    """Of one replica in a fleet of so many, which carries more than one alone."""
    curve = state.usable_curves.get(shape)
    if curve is None:
        return 0.0
    known = min(max(1, replicas), curve.most_replicas)
    return curve.capacity_rps(known) / known


def _carried_rps(counts: Mapping[str, ShapeCount]) -> float:
    return sum(count.capacity_rps * count.serving for count in counts.values())


def _needed_rps(state: ServiceState, plan: ServicePlan) -> float:
    """Load to be ready for until a replica that is started now is Ready."""
    lead = int(state.curves[plan.shape].startup_s / state.demand.slot_s) + 2
    return max(state.present_rps, float(state.demand.high_rps[:lead].max()))


def _report_lack(plan: ServicePlan, state: ServiceState, room: Room, draft: StatusDraft) -> None:
    """That another fleet would serve better, or that the load needs a larger one, and what there is no room for."""
    if plan.wanted is not None:
        shape, told = plan.wanted.shape, f"{plan.wanted.replicas} x {plan.wanted.shape} would serve better"
    elif plan.carried < 1 and plan.replicas < state.max_replicas:
        shape, told = plan.shape, f"the load needs more replicas than {plan.replicas} x {plan.shape}"
    else:
        return
    gpus = state.curves[shape].gpus
    if not room.replicas(gpus):
        draft.set(ConditionType.PROGRESSING, False, Reason.NO_SPARE_CAPACITY, f"{told}: {room.lack(gpus)}")


def _report(step: Step, goal: str, spec: LLMServiceSpec, draft: StatusDraft, *, is_served: bool) -> None:
    """What goes on, as a condition, and the change of shape with its failures."""
    message = step.message
    if step.reason == Reason.OUTSIDE_CHANGE_WINDOW and (opening := next_opening(spec.change_windows, draft.now)):
        message = f"{message}; the next change window opens at {opening:%Y-%m-%d %H:%M} UTC"
    note_step(draft, step, goal, message, is_served=is_served)
    failed = draft.status.reshape
    if step.kind is not StepKind.DONE:
        draft.set(ConditionType.PROGRESSING, step.kind in _UNDER_WAY, Reason(step.reason), message)
    elif failed is not None and failed.retry_time is not None:
        message = f"{failed.message}; tried again after {failed.retry_time:%Y-%m-%d %H:%M} UTC"
        draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_FAILED, message)
