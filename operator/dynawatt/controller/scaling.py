"""The writes that change replicas: scaling a Deployment, creating, updating and removing siblings."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.adapters.kubernetes.mirror import Mirror
from dynawatt.adapters.vllm_args import VllmPodError
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.shapes.disruption import protection_changes
from dynawatt.controller.shapes.leaving import DELETION_COST, deletion_cost_changes, is_ready, order_of_leaving
from dynawatt.controller.shapes.roll import is_behind, rolled
from dynawatt.controller.shapes.shape import Shape
from dynawatt.controller.shapes.sibling import sibling_of
from dynawatt.controller.target import Workload
from dynawatt.errors import InvalidInputError
from dynawatt.planning.step import RESHAPING, Scale, Step

_log = logging.getLogger(__name__)


class Scaling:
    """Writes on behalf of the holder of a Lease. Every method raises API_ERRORS."""

    def __init__(self, cluster: Cluster, view: Mirror) -> None:
        """What writes, and what reads."""
        self._cluster = cluster
        self._view = view

    async def scale(self, workload: Workload, step: Step, draft: StatusDraft) -> bool:
        """Carry a step out on a Deployment that is there; False when it has to be looked at again."""
        scale = step.scale
        assert scale is not None
        if scale.replicas < workload.replicas and await self._choose_leaving(workload, scale):
            return False  # the controller that deletes pods hears of costs a moment later
        if not await asyncio.to_thread(self._cluster.scale, workload.deployment, scale.replicas):
            return False
        self._record(step, workload.replicas, draft)
        return True

    async def create(
        self,
        template: Workload,
        shape: Shape,
        step: Step,
        draft: StatusDraft,
        *,
        service: str,
        container: str | None,
        startup_s: float | None,
    ) -> None:
        """Create the sibling of a shape with the replicas that a step asks for."""
        assert step.scale is not None
        try:
            sibling = sibling_of(template.deployment, shape, service=service, container=container, startup_s=startup_s)
        except (VllmPodError, InvalidInputError) as error:
            draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_REFUSED, str(error))
            return
        sibling["spec"]["replicas"] = step.scale.replicas
        if await asyncio.to_thread(self._cluster.create_deployment, sibling):
            self._record(step, 0, draft)

    async def delete(self, sibling: Workload) -> None:
        """Delete a sibling; its pods drain."""
        await asyncio.to_thread(self._cluster.delete_deployment, sibling.deployment)

    async def remove(self, siblings: Sequence[Workload]) -> bool:
        """Delete siblings of which no pod is left; False while there are others."""
        left = False
        for sibling in siblings:
            if sibling.replicas or sibling.pods:
                left = True
            else:
                await self.delete(sibling)
        return not left

    async def roll(
        self, template: Workload, siblings: Sequence[Workload], draft: StatusDraft, service: str, container: str | None
    ) -> None:
        """Carry an edit of the user's template over to the first sibling that lacks it."""
        for sibling in siblings:
            if is_behind(template.deployment, sibling.deployment):
                try:
                    new = rolled(template.deployment, sibling.deployment, service=service, container=container)
                except (VllmPodError, InvalidInputError) as error:
                    draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_REFUSED, str(error))
                else:
                    await asyncio.to_thread(self._cluster.replace_deployment, new)
                return

    async def protect(self, workloads: Sequence[Workload], *, under_way: bool) -> None:
        """Keep cluster autoscalers away from pods that load while a step waits for them."""
        for workload in workloads:
            for pod in workload.live_pods:
                changes = protection_changes(pod, wanted=under_way and not is_ready(pod))
                if changes:
                    await asyncio.to_thread(self._cluster.annotate_pod, pod, changes)

    async def _choose_leaving(self, workload: Workload, scale: Scale) -> bool:
        """Mark the pods that are to go first; whether anything had to be written."""
        node_counts = Counter(pod["spec"].get("nodeName") for pod in self._view.pods())
        order = order_of_leaving(workload.pods, running_requests={}, pods_on_node=node_counts)
        if scale.node is not None:
            order.sort(key=lambda pod: is_ready(pod) and pod["spec"].get("nodeName") != scale.node)
        leaving = order[: len(order) - scale.replicas]
        changes = deletion_cost_changes(workload.pods, leaving)
        by_name = {pod["metadata"]["name"]: pod for pod in workload.pods}
        for name, cost in changes.items():
            await asyncio.to_thread(self._cluster.annotate_pod, by_name[name], {DELETION_COST: cost})
        return bool(changes)

    @staticmethod
    def _record(step: Step, before: int, draft: StatusDraft) -> None:
        scale = step.scale
        assert scale is not None
        if step.reason == RESHAPING:
            of = f" of {scale.deployment}"
            draft.changed(Knob.SHAPE, f"{before}{of}", f"{scale.replicas}{of}", step.message)
        else:
            draft.changed(Knob.REPLICAS, str(before), str(scale.replicas), step.message)
