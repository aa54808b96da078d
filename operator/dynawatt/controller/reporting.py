"""What is found and decided, as conditions and status fields."""

from collections.abc import Mapping

from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.api.llmservice_status import ShapeStatus
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.silent_agents import StuckClocks
from dynawatt.controller.target import ShapedWorkload, Target
from dynawatt.planning.service import ServicePlan


def report_target(target: Target, gpu_product: str, draft: StatusDraft) -> None:
    """Shapes, progress and drain set-up of the Deployments."""
    known = {shape.deployment: shape for shape in draft.status.shapes}
    shapes = (_shape(workload, gpu_product, known.get(workload.name)) for workload in target.workloads)
    draft.status.shapes = [
        shape
        for shape, workload in zip(shapes, target.workloads, strict=True)
        if shape is not None and (workload is target.template or workload.replicas or workload.pods)
    ]
    ready, desired = len(target.serving_pods), target.replicas
    if ready == desired:
        are_ready = "1 replica is Ready" if ready == 1 else f"{ready} replicas are Ready"
        draft.set(ConditionType.PROGRESSING, False, Reason.STEADY, are_ready)
    else:
        draft.set(ConditionType.PROGRESSING, True, Reason.SCALING, f"{ready} of {desired} replicas are Ready")
    if not target.template.is_understood:
        return
    if target.drain_problem is None:
        draft.set(ConditionType.DRAIN_CONFIGURED, True, Reason.DRAIN_SET_UP, "pods finish their requests")
    else:
        draft.set(ConditionType.DRAIN_CONFIGURED, False, Reason.DRAIN_NOT_CONFIGURED, target.drain_problem)


def _shape(workload: ShapedWorkload, gpu_product: str, known: ShapeStatus | None) -> ShapeStatus | None:
    """How its replicas are; of one that is not understood any more with the size that was known, if one was."""
    if workload.is_understood:
        size = workload.settings.tensor_parallel_size
    elif known is not None:
        size = known.tensor_parallel_size
    else:
        return None
    return ShapeStatus(
        deployment=workload.name,
        gpu_product=gpu_product,
        tensor_parallel_size=size,
        desired_replicas=workload.replicas,
        ready_replicas=len(workload.serving_pods),
        clock=None if known is None else known.clock,
    )


def report_plan(plan: ServicePlan, sizes: Mapping[str, int], draft: StatusDraft) -> None:
    """The decision, and whether the SLO can be met; the same plan again changes nothing.

    ``sizes`` are tensor-parallel sizes by shape.
    """
    draft.decide(plan, sizes)
    if plan.feasible:
        message = "the load to be ready for is carried within the objectives"
        draft.set(ConditionType.SLO_ATTAINABLE, True, Reason.PLAN_FOUND, message)
        return
    message = f"{plan.carried:.0%} of the load to be ready for is carried within the objectives"
    draft.set(ConditionType.SLO_ATTAINABLE, False, Reason.SLO_UNREACHABLE, message if plan.carried else plan.message)


def report_clocks(spec: LLMServiceSpec, stuck: StuckClocks | None, draft: StatusDraft) -> None:
    """Whether clocks are claimed, and whether there is anybody to move them."""
    claimed = dict.fromkeys(str(shape.clock) for shape in draft.status.shapes if shape.clock is not None)
    if stuck is not None:
        draft.set(ConditionType.CLOCKS_GOVERNED, None, Reason.AGENT_STALE, str(stuck))
    elif Knob.CLOCK not in spec.knobs:
        draft.set(ConditionType.CLOCKS_GOVERNED, False, Reason.CLOCK_KNOB_OFF, "`knobs` does not contain Clock")
    elif not claimed:
        draft.set(ConditionType.CLOCKS_GOVERNED, False, Reason.NO_CLAIMS, "all GPUs run at their default clocks")
    else:
        ranges = " and ".join(claimed)
        message = f"governed within {ranges} MHz by the agents, which report in their GPUNodes what they can apply"
        draft.set(ConditionType.CLOCKS_GOVERNED, True, Reason.CLAIMS_APPLIED, message)
