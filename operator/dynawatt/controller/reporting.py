"""What is found and decided, as conditions and status fields."""

from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.api.llmservice_status import ShapeStatus
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.target import Target
from dynawatt.planning.service import ServicePlan


def report_target(target: Target, gpu_product: str | None, draft: StatusDraft) -> None:
    """Shape, progress and drain set-up of the Deployment."""
    ready, desired = len(target.serving_pods), target.replicas
    draft.status.shapes = [
        ShapeStatus(
            gpu_product=gpu_product or "unknown",
            tensor_parallel_size=target.settings.tensor_parallel_size,
            desired_replicas=desired,
            ready_replicas=ready,
            clock=draft.status.shapes[0].clock if draft.status.shapes else None,
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


def report_plan(plan: ServicePlan, draft: StatusDraft) -> None:
    """The decision, and whether the SLO can be met; the same plan again changes nothing."""
    draft.decide(plan)
    if plan.feasible:
        message = "the load to be ready for is carried within the objectives"
        draft.set(ConditionType.SLO_ATTAINABLE, True, Reason.PLAN_FOUND, message)
        return
    message = f"{plan.carried:.0%} of the load to be ready for is carried within the objectives"
    draft.set(ConditionType.SLO_ATTAINABLE, False, Reason.SLO_UNREACHABLE, message if plan.carried else plan.message)


def report_clocks(spec: LLMServiceSpec, draft: StatusDraft) -> None:
    """Whether clocks are claimed."""
    claimed = draft.status.shapes[0].clock
    if Knob.CLOCK not in spec.knobs:
        draft.set(ConditionType.CLOCKS_GOVERNED, False, Reason.CLOCK_KNOB_OFF, "`knobs` does not contain Clock")
    elif claimed is None:
        draft.set(ConditionType.CLOCKS_GOVERNED, False, Reason.NO_CLAIMS, "all GPUs run at their default clocks")
    else:
        message = f"governed within {claimed} MHz by the agents, which report in their GPUNodes what they can apply"
        draft.set(ConditionType.CLOCKS_GOVERNED, True, Reason.CLAIMS_APPLIED, message)
