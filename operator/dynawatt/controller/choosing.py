"""Which further shapes a service may have: what the user allows, what vLLM and the nodes can do, what failed lately."""

import asyncio
from dataclasses import replace

from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.llmservice import TENSOR_PARALLEL_SIZES, Knob
from dynawatt.controller.reshape_record import is_barred
from dynawatt.controller.shape_models import ShapeModels, shape_models
from dynawatt.controller.shapes.fitting import ShapeLimits, shape_refusals
from dynawatt.controller.shapes.refusals import template_refusals
from dynawatt.controller.shapes.shape import Shape, sibling_name
from dynawatt.controller.target import ShapedWorkload
from dynawatt.controller.tick import Tick
from dynawatt.errors import InvalidInputError


class ShapeChoice:
    """Finds the shapes that the planner may choose beside those that are there."""

    def __init__(self, cluster: Cluster) -> None:
        """What is asked for volumes."""
        self._cluster = cluster

    async def further(self, tick: Tick) -> dict[str, ShapeModels]:
        """Models of further shapes, by name. What is refused is told in the status. Raises API_ERRORS."""
        if Knob.SHAPE not in tick.spec.knobs:
            return {}
        target, spec, product = tick.target, tick.spec, tick.runtime.product
        refusals = await self._template_refusals(tick)
        if refusals:
            tick.draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_REFUSED, "; ".join(refusals))
            return {}
        present = {workload.settings.tensor_parallel_size for workload in target.workloads}
        found, refused = {}, []
        for size in spec.tensor_parallel_sizes or TENSOR_PARALLEL_SIZES:
            shape = Shape(size, gpu_product=product)
            if size in present or is_barred(tick.draft, sibling_name(target.template.name, shape)):
                continue
            models, problems = _judge(tick, shape)
            refused += problems
            if models is not None and not problems:
                found[models.name] = models
        if refused and spec.tensor_parallel_sizes is not None:  # by default only what works is meant
            tick.draft.set(ConditionType.PROGRESSING, False, Reason.RESHAPE_REFUSED, "; ".join(refused))
        return found

    async def _template_refusals(self, tick: Tick) -> list[str]:
        """Asked anew when the template changes: the access modes of a volume never do."""
        runtime, deployment = tick.runtime, tick.target.template.deployment
        asked = (deployment["metadata"].get("generation"), tick.spec.container)
        if runtime.refusals is None or runtime.refusals[0] != asked:
            names = _claim_names(tick.target.template)
            modes = [await asyncio.to_thread(self._cluster.access_modes, runtime.namespace, name) for name in names]
            claims = {name: found for name, found in zip(names, modes, strict=True) if found is not None}
            refusals = template_refusals(deployment, container=tick.spec.container, volume_claims=claims)
            messages = [refusal.message for refusal in refusals]
            # A claim that is missing may be created any time: then it is asked again.
            runtime.refusals = asked if len(claims) == len(names) else None, messages
        return runtime.refusals[1]


def _judge(tick: Tick, shape: Shape) -> tuple[ShapeModels | None, list[str]]:
    """What is known of a shape, and why it cannot run."""
    target, models, unknown = tick.target, None, []
    settings = replace(target.settings, tensor_parallel_size=shape.tensor_parallel_size)
    try:
        models = shape_models(settings, tick.runtime.product)
    except InvalidInputError as error:  # the model does not fit so few GPUs, its heads do not divide, or no node fits
        unknown = [str(error)]
    problems = shape_refusals(target.template.deployment, target.settings, shape, _limits(tick, models))
    return models, [problem.message for problem in problems] or unknown


def _limits(tick: Tick, models: ShapeModels | None) -> ShapeLimits:
    largest = tick.inventory.largest(tick.runtime.product, tick.inventory.needs(tick.target.workloads))
    if models is None:
        return ShapeLimits(largest)
    architecture = models.replica.model.architecture
    return ShapeLimits(
        largest_node_gpus=largest,
        attention_heads=architecture.heads,
        kv_heads=architecture.kv_heads,
        context_tokens=architecture.context_tokens,
        kv_capacity_tokens=models.replica.kv_capacity_tokens,
    )


def _claim_names(workload: ShapedWorkload) -> list[str]:
    volumes = workload.deployment["spec"]["template"]["spec"].get("volumes") or ()
    sources = (volume.get("persistentVolumeClaim") for volume in volumes)
    return [source["claimName"] for source in sources if source]
