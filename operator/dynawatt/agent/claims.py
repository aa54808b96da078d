"""The claims on this node's pods, read strictly: what is not understood is not acted on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from dynawatt.agent.refusal import Refusal
from dynawatt.api.claims import ClockClaim, InvalidClaimError
from dynawatt.api.conditions import Reason
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.governing.table import GovernorTable
from dynawatt.ports import PodKey, ScrapeTarget
from dynawatt.quantities import seconds


@dataclass(frozen=True, slots=True)
class PodClaim:
    """What a pod's governor works with."""

    service: str
    """The LLMService it serves, as namespace/name."""
    floor_mhz: int
    ceiling_mhz: int
    table: GovernorTable
    ttft_s: float | None
    """Objective of all first tokens; None when they cannot be judged."""
    address: str | None
    """The pod's IP; None before it has one."""
    port: int
    """Where the pod serves its metrics."""
    ready: bool
    """Whether the pod serves: before, it has no metrics to read."""

    @property
    def target(self) -> ScrapeTarget | None:
        """What to scrape; None while the pod has no address."""
        return ScrapeTarget(self.address, self.port, self.table.tbt_s, self.ttft_s) if self.address else None


@dataclass(frozen=True, slots=True)
class NodeClaims:
    """Every claim of this node."""

    valid: Mapping[PodKey, PodClaim] = field(default_factory=dict)
    invalid: Mapping[PodKey, Refusal] = field(default_factory=dict)


def read_claims(pods: Iterable[Mapping[str, Any]], *, lease: str) -> NodeClaims:
    """Claims of pods as the API gives them; ``lease`` is the one this agent watches, as namespace/name."""
    valid: dict[PodKey, PodClaim] = {}
    invalid: dict[PodKey, Refusal] = {}
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        text = (metadata.get("annotations") or {}).get(CLAIM_ANNOTATION)
        if text is None or status.get("phase") in {"Succeeded", "Failed"}:
            continue
        key = PodKey(metadata["namespace"], metadata["name"])
        try:
            valid[key] = _pod_claim(text, status, lease)
        except ValueError as error:
            invalid[key] = Refusal(Reason.INVALID_CLAIM, str(error))
    return NodeClaims(valid, invalid)


def _pod_claim(text: str, status: Mapping[str, Any], lease: str) -> PodClaim:
    """Raises ValueError."""
    claim, table = _parsed(text)
    if claim.lease != lease:
        raise InvalidClaimError(
            f"clock claim names the lease {claim.lease!r}: must be {lease!r}, which this agent watches"
        )
    return PodClaim(
        service=claim.service,
        floor_mhz=claim.floor_megahertz,
        ceiling_mhz=claim.ceiling_megahertz,
        table=table,
        ttft_s=None if claim.ttft_milliseconds is None else seconds(claim.ttft_milliseconds),
        address=status.get("podIP"),
        port=claim.metrics_port,
        ready=any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in status.get("conditions") or ()
        ),
    )


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[ClockClaim, GovernorTable]:
    """A claim is read every second and rewritten every few minutes. Raises ValueError."""
    claim = ClockClaim.from_annotation(text)
    try:
        return claim, GovernorTable.from_dict(claim.table.to_dict())
    except ValueError as error:
        raise InvalidClaimError(f"clock claim: {error}") from error
