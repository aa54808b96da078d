"""Who else changes what dynawatt would: autoscalers, GitOps controllers, people. There is no fight with any of them."""

from collections.abc import Sequence
from typing import Final

from dynawatt.api.conditions import Reason
from dynawatt.api.group import FIELD_MANAGER
from dynawatt.api.llmservice_status import Adopted
from dynawatt.controller.target import UNKNOWN_WRITER, ShapedWorkload, Target, Workload

_AUTOSCALERS: Final = {
    "ScaledObject": Reason.SCALED_BY_KEDA,
    "HorizontalPodAutoscaler": Reason.SCALED_BY_HPA,
    "VerticalPodAutoscaler": Reason.RESIZED_BY_VPA,
}
"""In the order they are told in: KEDA makes an HPA of its own, which it is no use to delete."""
_GITOPS: Final = ("argocd", "kustomize-controller", "helm-controller", "flux")


def autoscaler_conflict(found: Sequence[tuple[str, str]]) -> tuple[Reason, str] | None:
    """Why autoscalers of these kinds and names leave no place for dynawatt's own scaling."""
    for kind, reason in _AUTOSCALERS.items():
        names = sorted(name for its_kind, name in found if its_kind == kind)
        if names:
            message = (
                f"{kind} {', '.join(names)} changes the same Deployment: delete it, take Replicas and Shape out of "
                "`spec.knobs`, or let it follow dynawatt with `spec.replicas.scaledBy: External`"
            )
            return reason, message
    return None


def foreign_conflict(target: Target, adopted: Adopted | None) -> tuple[Reason, str] | None:
    """Who set the replicas of one of the Deployments to something else than dynawatt had asked for."""
    writer = foreign_writer(target.template, adopted)
    if writer is not None and adopted is not None:
        return Reason.FOREIGN_WRITE, _told(writer, target.template, f"asked for {expected_replicas(adopted)}")
    for sibling in target.siblings:
        writer = sibling.replicas_writer
        if writer not in (FIELD_MANAGER, UNKNOWN_WRITER):
            return Reason.FOREIGN_WRITE, _told(writer, sibling, "had set them")
    return None


def expected_replicas(adopted: Adopted) -> int:
    """What the user's Deployment asks for when nobody else writes."""
    return adopted.replicas if adopted.commanded is None else adopted.commanded


def foreign_writer(workload: Workload, adopted: Adopted | None) -> str | None:
    """The field manager that set the user's replicas since dynawatt took them over; None when nobody did."""
    if adopted is None or workload.replicas == expected_replicas(adopted):
        return None
    # An operator that died right after scaling could not record it; the API server did.
    writer = workload.replicas_writer
    return None if writer == FIELD_MANAGER else writer


def left_by_predecessor(template: Workload, siblings: Sequence[Workload], adopted: Adopted | None) -> bool:
    """Whether the user's replicas are taken for what an operator asked for that died before that was on record.

    With siblings it may have scaled them to nothing and up again, and of neither the API server records the writer.
    """
    return bool(siblings) and foreign_writer(template, adopted) == UNKNOWN_WRITER


def _told(writer: str, workload: ShapedWorkload, before: str) -> str:
    remedy = "stop it from doing so"
    if any(name in writer for name in _GITOPS):
        remedy = "let it ignore differences in `/spec/replicas` of this Deployment"
    who = writer if writer == UNKNOWN_WRITER else repr(writer)
    return (
        f"{who} set {workload.replicas} replicas of Deployment {workload.name!r} after dynawatt {before}: "
        f'{remedy}, then set `mode` to "Off" and back to start from the present number'
    )
