"""Carries a plan out, and gives back: replicas through /scale, clocks through claims.

What has to be given back is on record in the status before anything is changed,
so that an operator that dies in between, or its successor, knows it.
"""

import asyncio
from collections.abc import Collection

from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.group import FIELD_MANAGER
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.api.llmservice_status import Adopted
from dynawatt.controller.claiming import ClockClaims, ClockTerms, claimed_for
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.target import Target, Workload
from dynawatt.planning.service import ServicePlan


class Actuator:
    """Changes Deployments and pods of one cluster on behalf of the holder of a Lease."""

    def __init__(self, cluster: Cluster, lease: str) -> None:
        """``lease`` is the ``namespace/name`` that claims depend on."""
        self._cluster = cluster
        self._claims = ClockClaims(cluster, lease)

    async def carry_out(
        self,
        service: str,
        spec: LLMServiceSpec,
        target: Target,
        plan: ServicePlan,
        draft: StatusDraft,
        *,
        terms: ClockTerms | None,
        may_scale: bool,
    ) -> None:
        """Move the service towards the plan: clocks first, because fewer replicas need higher ones.

        Governors would notice that only when the load of the replicas that drain has come over to the others, so they
        are left only their ceiling as long as any drains.

        Without ``terms`` no clock meets the SLO, and all run at their default.
        """
        if Knob.CLOCK in spec.knobs:
            draining = len(target.live_pods) < sum(bool(pod["spec"].get("nodeName")) for pod in target.pods)
            braced = draining or (may_scale and plan.carried > 0 and plan.replicas < target.replicas)
            await self._claim_clocks(service, spec, target, terms, draft, braced=braced)
        if may_scale:
            await self._scale(target, plan, draft)

    async def withdraw(self, allowed: Collection[Knob], workload: Workload, draft: StatusDraft, why: str) -> None:
        """Give back what is not allowed, or no longer."""
        if Knob.CLOCK not in allowed:
            await self._claims.drop(workload.pods)
            if draft.status.shapes:
                draft.status.shapes[0].clock = None
        if Knob.REPLICAS not in allowed:
            await self._restore_replicas(workload, draft, why)

    async def give_back(self, service: str, namespace: str, workload: Workload | None, draft: StatusDraft) -> None:
        """Everything, for a service that is deleted; done when nothing is adopted any longer."""
        if workload is None:
            draft.status.adopted = None
        else:
            await self.withdraw((), workload, draft, "the LLMService was deleted")
        # Pods that were taken out of the Deployment, by a change of labels or as orphans, keep their annotations.
        pods = await asyncio.to_thread(self._cluster.pods, namespace, {})
        await self._claims.drop(pod for pod in pods if claimed_for(pod) == service)

    async def _restore_replicas(self, workload: Workload, draft: StatusDraft, why: str) -> None:
        """Back to the replicas found at the start, unless somebody else has set them since."""
        adopted = draft.status.adopted
        if adopted is None:
            return
        current = workload.replicas
        if current != adopted.replicas and foreign_writer(workload, adopted) is None:
            if not await asyncio.to_thread(self._cluster.scale, workload.deployment, adopted.replicas):
                return  # changed under our hands: look again next time
            draft.changed(Knob.REPLICAS, str(current), str(adopted.replicas), why)
        draft.status.adopted = None

    async def _claim_clocks(
        self,
        service: str,
        spec: LLMServiceSpec,
        target: Target,
        terms: ClockTerms | None,
        draft: StatusDraft,
        *,
        braced: bool,
    ) -> None:
        shape = draft.status.shapes[0]
        before, shape.clock = shape.clock, None
        why = "no clock meets the SLO at any load"
        if terms is None:
            await self._claims.drop(target.pods)
        else:
            shape.clock = await self._claims.write(service, spec, target, terms, braced=braced)
            why = "the agents choose within this range, every second and for each pod"
        if shape.clock != before:
            draft.changed(Knob.CLOCK, str(before or "default"), str(shape.clock or "default"), why)

    async def _scale(self, target: Target, plan: ServicePlan, draft: StatusDraft) -> None:
        current, wanted = target.replicas, plan.replicas
        if current == wanted or not plan.carried:  # that carries nothing decides nothing
            return
        if draft.status.adopted is None:
            draft.status.adopted = Adopted(replicas=current)
        if not draft.adopted_is_on_record:
            return
        if await asyncio.to_thread(self._cluster.scale, target.deployment, wanted):
            draft.status.adopted.commanded = wanted
            draft.changed(Knob.REPLICAS, str(current), str(wanted), plan.message)
            draft.set(ConditionType.PROGRESSING, True, Reason.SCALING, f"from {current} to {wanted} replicas")


def expected_replicas(adopted: Adopted) -> int:
    """What the Deployment asks for when nobody else writes."""
    return adopted.replicas if adopted.commanded is None else adopted.commanded


def foreign_writer(workload: Workload, adopted: Adopted | None) -> str | None:
    """The field manager that set the replicas since dynawatt took them over; None when nobody did."""
    if adopted is None or workload.replicas == expected_replicas(adopted):
        return None
    # An operator that died right after scaling could not record it; the API server did.
    writer = workload.replicas_writer
    return None if writer == FIELD_MANAGER else writer
