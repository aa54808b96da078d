"""The clocks of a service: claims on the pods of all its shapes, and what the status says of them."""

from collections.abc import Iterable, Mapping
from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.llmservice import Knob, LLMServiceSpec
from dynawatt.controller.claiming import ClockClaims, ClockTerms, claimed_for
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.target import Target

_WHY_CLAIMED: Final = "the agents choose within this range, every second and for each pod"
_WHY_NOT: Final = "no clock meets the SLO at any load"


class ServiceClocks:
    """Claims and releases the clocks of services on behalf of the holder of a Lease."""

    def __init__(self, cluster: Cluster, lease: str) -> None:
        """``lease`` is the ``namespace/name`` that claims depend on."""
        self._claims = ClockClaims(cluster, lease)

    async def claim(
        self,
        service: str,
        spec: LLMServiceSpec,
        target: Target,
        terms: Mapping[str, ClockTerms],
        draft: StatusDraft,
        *,
        braced: bool,
    ) -> None:
        """Let the agents govern all pods, by the terms of their shapes; those without run at the default clock.

        Governors would notice the load of replicas that drain only when it has come over to the others, so they are
        left only their ceiling as long as any drains, and with ``braced``.
        """
        draining = len(target.live_pods) < sum(bool(pod["spec"].get("nodeName")) for pod in target.pods)
        shown = {shape.deployment: shape for shape in draft.status.shapes}
        for workload in target.workloads:
            shape = shown.get(workload.name)
            before, after = (None if shape is None else shape.clock), None
            if workload.shape in terms:
                after = await self._claims.write(
                    service, spec, workload, terms[workload.shape], braced=draining or braced
                )
            else:
                await self._claims.drop(workload.pods)
            if shape is not None:
                shape.clock = after if workload.pods else None
                if workload.pods and shape.clock != before:  # clocks that went with their pods were not changed
                    why = _WHY_CLAIMED if after else _WHY_NOT
                    draft.changed(Knob.CLOCK, str(before or "default"), str(shape.clock or "default"), why)

    async def withdraw(self, pods: Iterable[KubernetesObject], draft: StatusDraft) -> None:
        """Give all clocks back."""
        await self._claims.drop(pods)
        for shape in draft.status.shapes:
            shape.clock = None

    async def withdraw_everywhere(
        self, service: str, pods: Iterable[KubernetesObject], own: Iterable[KubernetesObject]
    ) -> None:
        """Those of pods, too, that were taken out of their Deployment, by a change of labels or as orphans.

        What cannot be read on pods of its ``own`` was written by another version, or by hand.
        """
        uids = {pod["metadata"]["uid"] for pod in own}
        found = [(pod, claimed_for(pod) or (service if pod["metadata"]["uid"] in uids else None)) for pod in pods]
        await self._claims.drop(pod for pod, whose in found if whose == service)
