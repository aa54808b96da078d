"""The claims on this node's pods, read strictly: what is not understood is not acted on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dynawatt.agent.enforcing import ClockRange, Refusal
from dynawatt.api.claims import ClockClaim, InvalidClaimError
from dynawatt.api.conditions import Reason
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.ports import PodKey


@dataclass(frozen=True, slots=True)
class NodeClaims:
    """Every claim of this node."""

    valid: Mapping[PodKey, ClockRange] = field(default_factory=dict)
    invalid: Mapping[PodKey, Refusal] = field(default_factory=dict)


def read_claims(pods: Iterable[Mapping[str, Any]], *, lease: str) -> NodeClaims:
    """Claims of pods as the API gives them; ``lease`` is the one this agent watches, as namespace/name."""
    valid: dict[PodKey, ClockRange] = {}
    invalid: dict[PodKey, Refusal] = {}
    for pod in pods:
        metadata = pod["metadata"]
        text = (metadata.get("annotations") or {}).get(CLAIM_ANNOTATION)
        if text is None or pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            continue
        key = PodKey(metadata["namespace"], metadata["name"])
        try:
            claim = ClockClaim.from_annotation(text)
        except InvalidClaimError as error:
            invalid[key] = Refusal(Reason.INVALID_CLAIM, str(error))
            continue
        if claim.lease != lease:
            message = f"clock claim names the lease {claim.lease!r}: must be {lease!r}, which this agent watches"
            invalid[key] = Refusal(Reason.INVALID_CLAIM, message)
            continue
        valid[key] = ClockRange(claim.min_megahertz, claim.max_megahertz)
    return NodeClaims(valid, invalid)
