"""The writes that change replicas: scaling a Deployment, creating, updating and removing siblings."""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.adapters.kubernetes.mirror import Mirror, gpu_count
from dynawatt.adapters.vllm_args import VllmPodError
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import Knob
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.shapes.disruption import protection_changes
from dynawatt.controller.shapes.leaving import DELETION_COST, deletion_cost_changes, is_ready, order_of_leaving
from dynawatt.controller.shapes.roll import is_behind, rolled
from dynawatt.controller.shapes.shape import Shape
from dynawatt.controller.shapes.sibling import Rollout, sibling_of
from dynawatt.controller.target import Target, Workload
from dynawatt.errors import InvalidInputError
from dynawatt.planning.room import Room
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
        name = step.scale.deployment
        if self._view.deployment(template.deployment["metadata"]["namespace"], name) is not None:
            message = f"Deployment {name!r} is there already and of no shape of this LLMService: delete or rename it"
            draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_REFUSED, message)
            return
        try:
            sibling = sibling_of(template.deployment, shape, service=service, container=container, startup_s=startup_s)
        except (VllmPodError, InvalidInputError) as error:
            draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_REFUSED, str(error))
            return
        sibling["spec"]["replicas"] = step.scale.replicas
        if await asyncio.to_thread(self._cluster.create_deployment, sibling):
            self._record(step, 0, draft)

    async def delete(self, sibling: Workload) -> bool:
        """Delete a sibling; its pods drain. False when it has changed or is gone."""
        return await asyncio.to_thread(self._cluster.delete_deployment, sibling.deployment)

    async def remove(self, siblings: Sequence[Workload]) -> bool:
        """Delete siblings of which no pod is left; False while there are others."""
        left = False
        for sibling in siblings:
            # One that has just changed is looked at again.
            if sibling.replicas or sibling.pods or not await self.delete(sibling):
                left = True
        return not left

    async def roll(
        self,
        target: Target,
        room: Room,
        draft: StatusDraft,
        *,
        service: str,
        container: str | None,
        refusals: Sequence[str] = (),
    ) -> None:
        """Carry an edit of the user's template over to the first sibling that lacks it, while others serve on.

        ``refusals`` tell why the template cannot be copied any more: then what runs goes on as it is.
        """
        template = target.template.deployment
        sibling = next((one for one in target.siblings if is_behind(template, one.deployment)), None)
        if sibling is None:
            return
        if refusals:
            message = f"{sibling.name} goes on without the edit of {target.template.name}: {'; '.join(refusals)}"
            draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_REFUSED, message)
            return
        gpus = gpu_count(sibling.deployment["spec"]["template"]["spec"])
        free = room.replicas(gpus)
        if not free and sibling.serving_pods and len(target.serving_pods) < 2:
            message = f"{sibling.name} is to take over an edit of {target.template.name}: {room.lack(gpus)}"
            draft.set(ConditionType.PROGRESSING, False, Reason.NO_SPARE_CAPACITY, message)
            return
        try:
            new = rolled(
                template,
                sibling.deployment,
                service=service,
                container=container,
                rollout=Rollout.within(free),
                startup_s=sibling.startup_s(0.0) or None,
            )
        except (VllmPodError, InvalidInputError) as error:
            draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_REFUSED, str(error))
        else:
            await asyncio.to_thread(self._cluster.replace_deployment, new)

    async def protect(self, workloads: Sequence[Workload], *, under_way: bool) -> None:
        """Keep cluster autoscalers away from pods that load while a step waits for them."""
        for workload in workloads:
            for pod in workload.live_pods:
                changes = protection_changes(pod, wanted=under_way and not is_ready(pod))
                if changes:
                    await asyncio.to_thread(self._cluster.annotate_pod, pod, changes)

    async def unmark(self, workloads: Sequence[Workload]) -> None:
        """Leave no marks on pods: neither which are to go first, nor which must not be moved."""
        await self.protect(workloads, under_way=False)
        for workload in workloads:
            await self._set_costs(workload, deletion_cost_changes(workload.pods, []))

    async def _choose_leaving(self, workload: Workload, scale: Scale) -> bool:
        """Mark the pods that are to go first; whether anything had to be written."""
        node_counts = Counter(pod["spec"].get("nodeName") for pod in self._view.pods())
        order = order_of_leaving(workload.pods, running_requests={}, pods_on_node=node_counts)
        if scale.node is not None:
            order.sort(key=lambda pod: is_ready(pod) and pod["spec"].get("nodeName") != scale.node)
        leaving = order[: max(0, len(order) - scale.replicas)]
        if not scale.replicas:  # all of them, in whatever order
            return False
        changes = deletion_cost_changes(workload.pods, leaving)
        await self._set_costs(workload, changes)
        return bool(changes)

    async def _set_costs(self, workload: Workload, changes: Mapping[str, str | None]) -> None:
        by_name = {pod["metadata"]["name"]: pod for pod in workload.pods}
        for name, cost in changes.items():
            await asyncio.to_thread(self._cluster.annotate_pod, by_name[name], {DELETION_COST: cost})

    @staticmethod
    def _record(step: Step, before: int, draft: StatusDraft) -> None:
        scale = step.scale
        assert scale is not None
        if step.reason == RESHAPING:
            of = f" of {scale.deployment}"
            draft.changed(Knob.SHAPE, f"{before}{of}", f"{scale.replicas}{of}", step.message)
        else:
            draft.changed(Knob.REPLICAS, str(before), str(scale.replicas), step.message)
