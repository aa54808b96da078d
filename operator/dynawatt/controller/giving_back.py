"""Gives the replicas of a service back to the Deployment they were found in, one step per tick."""

import time
from collections.abc import Sequence
from typing import Final

from dynawatt.adapters.kubernetes.mirror import Mirror, gpu_count
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.controller.adopting import adopted_as
from dynawatt.controller.conflicts import foreign_writer, left_by_predecessor
from dynawatt.controller.counting import count_workload, node_rooms
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.inventory import Inventory
from dynawatt.controller.modelling import OVERDUE
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.scaling import Scaling
from dynawatt.controller.target import Workload
from dynawatt.planning.giving_back import Original, give_back_step, serving
from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.step import StepKind

_USUAL_STARTUP_S: Final = 300.0
"""Where no pod tells how long they take."""
_AT_REST: Final = (StepKind.BLOCKED, StepKind.DONE, StepKind.GAVE_UP)


class GivingBack:
    """Brings services back to what they were; knows neither models nor metrics, which may be what is missing."""

    def __init__(self, scaling: Scaling, view: Mirror, *, timeout_s: float, elastic_nodes: bool) -> None:
        """What it works with.

        Args:
            scaling: What writes.
            view: What reads.
            timeout_s: How long the deletion of an LLMService waits for it.
            elastic_nodes: Whether the cluster adds nodes for pods that wait for GPUs.
        """
        self._scaling = scaling
        self._view = view
        self._timeout_s = timeout_s
        self._elastic_nodes = elastic_nodes

    async def advance(
        self,
        runtime: ServiceRuntime,
        template: Workload,
        siblings: Sequence[Workload],
        inventory: Inventory,
        draft: StatusDraft,
        *,
        gives_up: bool,
    ) -> bool:
        """One step; whether it is over. Raises API_ERRORS.

        Args:
            runtime: Of the service.
            template: The user's own Deployment.
            siblings: Those that the operator made.
            inventory: Nodes and their GPUs.
            draft: The status.
            gives_up: Whether, when it takes too long, siblings are left to serve on for good.
        """
        workloads = [template, *siblings]
        if draft.status.adopted is None and not siblings:
            await self._scaling.unmark(workloads)
            return True
        adopted = draft.status.adopted = draft.status.adopted or adopted_as(template, siblings)
        is_foreign = foreign_writer(template, adopted) is not None
        is_foreign = is_foreign and not left_by_predecessor(template, siblings, adopted)
        original = Original(template.name, template.replicas if is_foreign else adopted.replicas)
        counts = {workload.name: self._count(workload) for workload in workloads}
        if runtime.giving_back_since_s is None:
            runtime.giving_back_since_s = time.monotonic()
        if runtime.served_before is None:
            runtime.served_before = serving(counts)
        is_timed_out = gives_up and time.monotonic() - runtime.giving_back_since_s > self._timeout_s
        step = give_back_step(
            original,
            counts,
            nodes=node_rooms(inventory, runtime.product, workloads, self._view.pods(), elastic=self._elastic_nodes),
            max_gpus=None,
            before=runtime.served_before,
            is_timed_out=is_timed_out,
        )
        draft.set(ConditionType.PROGRESSING, step.kind not in _AT_REST, Reason(step.reason), step.message)
        if step.scale is not None:
            workload = next(one for one in workloads if one.name == step.scale.deployment)
            written = await self._scaling.scale(workload, step, draft)
            if written and workload is template:
                adopted.commanded = step.scale.replicas
            # Alone, the Deployment is the user's own again as soon as it asks for what it was found with.
            if not (written and workload is template and (not siblings or step.kind is StepKind.GAVE_UP)):
                return False
        elif step.kind is StepKind.GAVE_UP:
            return True
        elif step.kind is not StepKind.DONE or not await self._scaling.remove(siblings):
            return False
        if step.kind is not StepKind.DRAIN:  # whoever chooses which pods go may still have to see the marks
            await self._scaling.unmark(workloads)
        draft.status.adopted, draft.status.reshape, draft.status.back_offs = None, None, []
        runtime.giving_back_since_s = runtime.served_before = None
        return True

    async def delete(self, siblings: Sequence[Workload]) -> None:
        """Delete siblings of a service whose own Deployment is gone; their pods drain. Raises API_ERRORS."""
        for sibling in siblings:
            await self._scaling.delete(sibling)

    def _count(self, workload: Workload) -> ShapeCount:
        return count_workload(
            workload,
            # Where no model can be asked, GPUs measure what replicas carry.
            capacity_rps=float(gpu_count(workload.deployment["spec"]["template"]["spec"])),
            overdue_s=OVERDUE * workload.startup_s(_USUAL_STARTUP_S),
            drains=True,
            budgets=self._view.budgets(workload.deployment["metadata"]["namespace"]),
            now_s=time.time(),
        )
