"""What is claimed for the pods of a service against what the agents of their nodes report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.base import ClockRange
from dynawatt.api.claims import ClockClaim, InvalidClaimError
from dynawatt.api.conditions import ConditionType, Reason, find_condition
from dynawatt.api.gpunode import GPUNodeStatus, GPUStatus, Health
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.api.remedies import remedy_for
from dynawatt.cli.explain.reading import read_leniently

_NO_AGENT: Final = "Run the agent on every GPU node: `dynawatt doctor` lists those without."


@dataclass(frozen=True, slots=True)
class PodClocks:
    """Pods with equal claims of which the agents tell the same."""

    pods: tuple[str, ...]
    claim_mhz: str
    """Claimed SM clocks, such as 800-1980; empty without a claim."""
    gpus: int
    """That the agents know of, of all these pods."""
    told: str
    """What the agents do with it, or why they do nothing."""
    as_claimed: bool
    """Whether the GPUs are kept as the claim wants it, or at default where there is none."""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class _Verdict:
    told: str
    as_claimed: bool
    gpus: int = 0
    remedy: str = ""


def compare(
    pods: Sequence[KubernetesObject], gpu_nodes: Mapping[str, KubernetesObject] | None, service: str
) -> list[PodClocks]:
    """Group the pods, the most alike first, troubles last.

    Args:
        pods: Of the service, those that are stopping included.
        gpu_nodes: GPUNodes by name; None when they could not be read.
        service: Its ``namespace/name``.
    """
    statuses = {
        name: read_leniently(GPUNodeStatus, node.get("status") or {})[0] or GPUNodeStatus()
        for name, node in (gpu_nodes or {}).items()
    }
    groups: dict[tuple[str, str, bool, str], list[tuple[str, int]]] = {}
    for pod in pods:
        text = (pod["metadata"].get("annotations") or {}).get(CLAIM_ANNOTATION)
        claim: ClockClaim | None = None
        try:
            claim = ClockClaim.from_annotation(text) if text is not None else None
        except InvalidClaimError as error:
            remedy = remedy_for(Reason.INVALID_CLAIM)
            verdict = _Verdict(f"{Reason.INVALID_CLAIM}: {error}", as_claimed=False, remedy=remedy)
        else:
            verdict = _verdict(pod, claim, None if gpu_nodes is None else statuses, service)
        key = (_range(claim), verdict.told, verdict.as_claimed, verdict.remedy)
        groups.setdefault(key, []).append((pod["metadata"]["name"], verdict.gpus))
    found = [
        PodClocks(
            pods=tuple(sorted(name for name, _ in members)),
            claim_mhz=claim_mhz,
            gpus=sum(gpus for _, gpus in members),
            told=told,
            as_claimed=as_claimed,
            remedy=remedy,
        )
        for (claim_mhz, told, as_claimed, remedy), members in groups.items()
    ]
    return sorted(found, key=lambda group: (not group.as_claimed, -len(group.pods), group.pods))


def _verdict(
    pod: KubernetesObject, claim: ClockClaim | None, statuses: Mapping[str, GPUNodeStatus] | None, service: str
) -> _Verdict:
    node = pod.get("spec", {}).get("nodeName")
    if "deletionTimestamp" in pod["metadata"]:
        return _Verdict("stopping", as_claimed=True)
    if not node:
        return _Verdict(_unscheduled(pod), as_claimed=False)
    if claim is not None and claim.service != service:
        return _Verdict(f"claimed for another LLMService, {claim.service}", as_claimed=False)
    if statuses is None:
        return _Verdict("what the agents report could not be read", as_claimed=False)
    return _reported(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}", node, claim, statuses)


def _reported(holder: str, node: str, claim: ClockClaim | None, statuses: Mapping[str, GPUNodeStatus]) -> _Verdict:
    """What the node's agent says of the GPUs of a pod."""
    if node not in statuses:
        told = f"node {node} has no GPUNode: no agent has reported there, clocks are at default"
        return _Verdict(told, as_claimed=claim is None, remedy="" if claim is None else _NO_AGENT)
    gpus = [gpu for gpu in statuses[node].gpus if gpu.allocated_to == holder]
    if not gpus:
        return _Verdict(f"the agent of node {node} sees no GPU of it yet", as_claimed=claim is None)
    return _of_gpus(gpus, claim, statuses[node])


def _of_gpus(gpus: Sequence[GPUStatus], claim: ClockClaim | None, node: GPUNodeStatus) -> _Verdict:
    count = len(gpus)
    sick = [gpu for gpu in gpus if gpu.health is Health.UNHEALTHY]
    if sick:
        told = f"{len(sick)} of {count} GPUs unhealthy: {sick[0].health_message or 'no reason given'}"
        return _Verdict(told, as_claimed=False, gpus=count, remedy=remedy_for(Reason.GPU_UNHEALTHY))
    if claim is None:
        held = [gpu for gpu in gpus if gpu.claim is not None]
        told = f"{len(held)} of {count} GPUs still held within {held[0].claim} MHz" if held else "default clocks"
        return _Verdict(told, as_claimed=not held, gpus=count)
    left_alone = next((gpu.energy_only for gpu in gpus if gpu.energy_only is not None), None)
    if left_alone is not None:
        told = f"left alone, {left_alone.reason}: {left_alone.message}"
        return _Verdict(told, as_claimed=False, gpus=count, remedy=remedy_for(left_alone.reason))
    missing = [gpu for gpu in gpus if gpu.claim is None]
    if missing:
        why = find_condition(node.conditions, ConditionType.CLOCKS_GOVERNED)
        reason, message = (Reason.CLAIMS_PENDING, "") if why is None else (why.reason, f": {why.message}")
        told = f"not applied on {len(missing)} of {count} GPUs, {reason}{message}"
        return _Verdict(told, as_claimed=False, gpus=count, remedy=remedy_for(reason))
    ranges = sorted({str(gpu.claim) for gpu in gpus})
    told = "applied" if ranges == [_range(claim)] else f"applied within {', '.join(ranges)}, what the GPUs support"
    return _Verdict(told, as_claimed=True, gpus=count)


def _range(claim: ClockClaim | None) -> str:
    if claim is None:
        return ""
    return str(ClockRange(min_megahertz=claim.floor_megahertz, max_megahertz=claim.ceiling_megahertz))


def _unscheduled(pod: Mapping[str, Any]) -> str:
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("message"):
            return f"not scheduled: {condition['message']}"
    return "not scheduled yet"
