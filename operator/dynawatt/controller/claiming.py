"""Clock claims on the pods of a service: written when their terms change, and taken away."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.base import ClockRange
from dynawatt.api.claims import ClaimTable, ClockClaim, InvalidClaimError
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.api.llmservice import SLO, LLMServiceSpec
from dynawatt.controller.target import ShapedWorkload
from dynawatt.governing.table import GovernorTable


@dataclass(frozen=True, slots=True)
class ClockTerms:
    """What a governor needs beyond what the user wrote."""

    ceiling_mhz: int
    """The GPUs' default clock."""
    table: GovernorTable


class ClockClaims:
    """Writes and removes claims on behalf of the holder of a Lease."""

    def __init__(self, cluster: Cluster, lease: str) -> None:
        """``lease`` is the ``namespace/name`` that claims depend on."""
        self._cluster = cluster
        self._lease = lease

    async def write(
        self, service: str, spec: LLMServiceSpec, workload: ShapedWorkload, terms: ClockTerms, *, braced: bool
    ) -> ClockRange:
        """Claim the clocks of all live pods of a shape; those that carry the same claim already are left alone.

        ``braced`` claims leave only the ceiling, for pods that are to take over the load of others. Returns the range
        that the pods have otherwise.
        """
        floor_mhz = min(spec.gpu_clock.min_megahertz, terms.ceiling_mhz)
        claim = ClockClaim(
            floor_megahertz=terms.ceiling_mhz if braced else floor_mhz,
            ceiling_megahertz=terms.ceiling_mhz,
            lease=self._lease,
            service=service,
            metrics_port=workload.settings.port,
            ttft_milliseconds=single_ttft_ms(spec.slo) if terms.table.judges_ttft else None,
            table=ClaimTable.model_validate(terms.table.to_dict()),
        )
        text = claim.to_annotation()
        for pod in workload.live_pods:
            if _text(pod) != text:
                await asyncio.to_thread(self._cluster.annotate_pod, pod, {CLAIM_ANNOTATION: text})
        return ClockRange(min_megahertz=floor_mhz, max_megahertz=terms.ceiling_mhz)

    async def drop(self, pods: Iterable[KubernetesObject]) -> None:
        """Remove the claims; the agents then reset the GPUs."""
        for pod in pods:
            if _text(pod) is not None:
                await asyncio.to_thread(self._cluster.annotate_pod, pod, {CLAIM_ANNOTATION: None})


def single_ttft_ms(slo: SLO) -> int | None:
    """The objective of all first tokens; None when it depends on the input length, which vLLM's histogram lacks."""
    entries = slo.time_to_first_token
    return entries[0].milliseconds if len(entries) == 1 else None


def claimed_for(pod: KubernetesObject) -> str | None:
    """The ``namespace/name`` of the LLMService that claimed a pod's clocks."""
    try:
        return ClockClaim.from_annotation(_text(pod) or "").service
    except InvalidClaimError:
        return None


def _text(pod: KubernetesObject) -> str | None:
    text: str | None = (pod["metadata"].get("annotations") or {}).get(CLAIM_ANNOTATION)
    return text
