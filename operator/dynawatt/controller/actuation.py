"""Carries a plan out, and gives everything back: replicas through /scale, clocks through claims.

What has to be given back is written into the status one tick before anything is
changed, so that an operator that dies in between, or its successor, knows it.
"""

import asyncio

from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.base import ClockRange
from dynawatt.api.claims import ClockClaim
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.group import CLAIM_ANNOTATION, FIELD_MANAGER
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.api.llmservice_status import Adopted
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.target import Target
from dynawatt.planning.plan import ServicePlan


class Actuator:
    """Changes Deployments and pods of one cluster on behalf of the holder of a Lease."""

    def __init__(self, cluster: Cluster, lease: str) -> None:
        """``lease`` is the ``namespace/name`` that claims depend on."""
        self._cluster = cluster
        self._lease = lease

    async def carry_out(
        self, service: str, spec: LLMServiceSpec, target: Target, plan: ServicePlan, draft: StatusDraft
    ) -> None:
        """Move the service towards the plan: clocks first, because fewer replicas may need higher ones."""
        if Knob.CLOCK in spec.knobs:
            await self._claim_clocks(service, spec, target, plan, draft)
        else:
            await self.drop_claims(target)
        if Knob.REPLICAS in spec.knobs:
            await self._scale(target, plan, draft)
        elif draft.status.adopted is not None:
            await self.restore_replicas(target, draft, "the knob Replicas was taken away")

    async def give_back(self, target: Target | None, draft: StatusDraft, why: str) -> None:
        """Clocks to their defaults, replicas as they were found."""
        if target is None:
            draft.status.adopted = None
            return
        await self.drop_claims(target)
        await self.restore_replicas(target, draft, why)

    async def drop_claims(self, target: Target) -> None:
        """Remove the claims of all pods; the agents then reset their GPUs."""
        for pod in target.pods:
            if CLAIM_ANNOTATION in (pod["metadata"].get("annotations") or {}):
                await asyncio.to_thread(self._cluster.annotate_pod, pod, {CLAIM_ANNOTATION: None})

    async def restore_replicas(self, target: Target, draft: StatusDraft, why: str) -> None:
        """Back to the replicas found at the start, unless somebody else has set them since."""
        adopted = draft.status.adopted
        if adopted is None:
            return
        current = target.replicas
        if current != adopted.replicas and foreign_writer(target, adopted) is None:
            if not await asyncio.to_thread(self._cluster.scale, target.deployment, adopted.replicas):
                return  # changed under our hands: look again next time
            draft.changed(Knob.REPLICAS, str(current), str(adopted.replicas), why)
        draft.status.adopted = None

    async def _claim_clocks(
        self, service: str, spec: LLMServiceSpec, target: Target, plan: ServicePlan, draft: StatusDraft
    ) -> None:
        clock_mhz = plan.clock_now_mhz
        claim = ClockClaim(
            min_megahertz=min(spec.gpu_clock.min_megahertz, clock_mhz),
            max_megahertz=clock_mhz,
            lease=self._lease,
            service=service,
        )
        text = claim.to_annotation()
        for pod in target.live_pods:
            if (pod["metadata"].get("annotations") or {}).get(CLAIM_ANNOTATION) != text:
                await asyncio.to_thread(self._cluster.annotate_pod, pod, {CLAIM_ANNOTATION: text})
        before = draft.status.shapes[0].clock if draft.status.shapes else None
        if before is None or before.max_megahertz != clock_mhz:
            shown = "default" if before is None else str(before.max_megahertz)
            draft.changed(Knob.CLOCK, shown, str(clock_mhz), plan.message)
        if draft.status.shapes:
            draft.status.shapes[0].clock = ClockRange(
                min_megahertz=claim.min_megahertz, max_megahertz=claim.max_megahertz
            )

    async def _scale(self, target: Target, plan: ServicePlan, draft: StatusDraft) -> None:
        current, wanted = target.replicas, plan.chosen.replicas
        if current == wanted:
            return
        if draft.status.adopted is None:
            draft.status.adopted = Adopted(replicas=current)
            return
        if await asyncio.to_thread(self._cluster.scale, target.deployment, wanted):
            draft.status.adopted.commanded = wanted
            draft.changed(Knob.REPLICAS, str(current), str(wanted), plan.message)
            draft.set(ConditionType.PROGRESSING, True, Reason.SCALING, f"from {current} to {wanted} replicas")


def foreign_writer(target: Target, adopted: Adopted | None) -> str | None:
    """The field manager that set the replicas after dynawatt did; None when nobody did."""
    if adopted is None or adopted.commanded in (None, target.replicas):
        return None
    # An operator that died right after scaling could not record it; the API server did.
    writer = target.replicas_writer
    return None if writer == FIELD_MANAGER else writer
