"""Whether one shape of a Deployment can run at all: of which sizes the planner may think."""

from collections.abc import Iterator
from typing import NamedTuple

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.controller.shapes.gpus import admits_product
from dynawatt.controller.shapes.refusal import Refusal, RefusalReason
from dynawatt.controller.shapes.shape import Shape


class ShapeLimits(NamedTuple):
    """What bounds shapes; None for what is not known, which then bounds nothing."""

    largest_node_gpus: int | None = None
    """Most GPUs on one node that its pods may run on."""
    attention_heads: int | None = None
    kv_heads: int | None = None
    context_tokens: int | None = None
    """Longest sequence of the model: what ``--max-model-len`` is where it is absent."""
    kv_capacity_tokens: int | None = None
    """Tokens that the KV cache of a replica of this shape holds."""


def shape_refusals(
    deployment: KubernetesObject, settings: VllmSettings, shape: Shape, limits: ShapeLimits
) -> list[Refusal]:
    """Everything that keeps a Deployment, which runs with these settings, from having replicas of a shape."""
    return [
        *_size(shape, limits),
        *_gpu(deployment, shape),
        *_context(settings, shape, limits),
        *_batch(settings, shape),
    ]


def _size(shape: Shape, limits: ShapeLimits) -> Iterator[Refusal]:
    size = shape.tensor_parallel_size
    if limits.largest_node_gpus is not None and size > limits.largest_node_gpus:
        yield Refusal(
            RefusalReason.LARGER_THAN_ANY_NODE,
            f"tensor-parallel size {size} needs as many GPUs on one node, and the largest that its pods may run on "
            f"has {limits.largest_node_gpus}: take {size} out of `tensorParallelSizes`",
        )
    heads, kv_heads = limits.attention_heads, limits.kv_heads
    # vLLM splits query heads evenly; key-value heads as well, or copies them evenly where there are fewer.
    if heads is not None and heads % size:
        yield Refusal(
            RefusalReason.HEADS_NOT_DIVISIBLE,
            f"tensor-parallel size {size} does not divide the model's {heads} attention heads: "
            f"take {size} out of `tensorParallelSizes`",
        )
    elif kv_heads is not None and max(kv_heads, size) % min(kv_heads, size):
        yield Refusal(
            RefusalReason.HEADS_NOT_DIVISIBLE,
            f"tensor-parallel size {size} neither divides the model's {kv_heads} key-value heads nor is a multiple: "
            f"take {size} out of `tensorParallelSizes`",
        )


def _gpu(deployment: KubernetesObject, shape: Shape) -> Iterator[Refusal]:
    product = shape.gpu_product
    if product is not None and not admits_product(deployment["spec"]["template"]["spec"], product):
        yield Refusal(
            RefusalReason.GPU_NOT_ADMITTED,
            f"its node selector or affinity keeps pods off nodes with {product}: admit that product",
        )


def _context(settings: VllmSettings, shape: Shape, limits: ShapeLimits) -> Iterator[Refusal]:
    """As vLLM itself refuses to start; with `--max-model-len auto` it would start, and refuse long requests instead."""
    tokens, capacity = settings.max_model_len or limits.context_tokens, limits.kv_capacity_tokens
    if tokens is None or capacity is None or tokens <= capacity:
        return
    given = "`--max-model-len` is" if settings.max_model_len else "the model's context, and so `--max-model-len`, is"
    size = shape.tensor_parallel_size
    yield Refusal(
        RefusalReason.CONTEXT_DOES_NOT_FIT,
        f"{given} {tokens} tokens, and the KV cache at tensor-parallel size {size} holds {capacity}: set "
        f"`--max-model-len` to at most {capacity}, or take {size} out of `tensorParallelSizes`",
    )


def _batch(settings: VllmSettings, shape: Shape) -> Iterator[Refusal]:
    tokens = shape.max_num_batched_tokens or settings.max_num_batched_tokens
    requests = shape.max_num_seqs or settings.max_num_seqs
    if tokens is not None and requests is not None and tokens < requests:
        yield Refusal(
            RefusalReason.BATCH_TOO_SMALL,
            f"`--max-num-batched-tokens` {tokens} is below `--max-num-seqs` {requests}, and vLLM would not start: "
            "lower `--max-num-seqs`",
        )
