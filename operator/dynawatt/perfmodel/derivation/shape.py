"""Coefficients of one model on one GPU product at one tensor-parallel degree, from measured operations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from dynawatt.perfmodel.architecture import Architecture
from dynawatt.perfmodel.clocked import Numbers
from dynawatt.perfmodel.derivation.attention import fit_decode_attention, fit_prefill_attention
from dynawatt.perfmodel.derivation.grid import fit_broken_line, samples_between
from dynawatt.perfmodel.derivation.measured import Kind, MeasuredModel, TokenOperation
from dynawatt.perfmodel.derivation.roofline import aggregate, other_part
from dynawatt.perfmodel.derivation.weights import active_parameters
from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.perfmodel.profile import ShapeCoefficients, StepCoefficients, WorkCoefficients

# Matrix multiplications jump where one more token opens another row of tiles: hence the pairs of neighbours.
TOKENS: Final = (
    1, 2, 4, 8, 16, 17, 32, 33, 48, 64, 65, 96, 128, 129, 192, 256, 257, 384, 512, 513, 768, 769, 1024, 1025,
    1280, 1281, 1536, 1537, 2048, 2049, 3072, 3073, 4096, 4097, 6144, 8192, 12288, 16384,
)  # fmt: skip
REQUESTS: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
CONTEXTS: Final = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Tokens of each decoding request in the KV cache."""
CHUNKS: Final = tuple(
    (tokens, context) for tokens in (64, 256, 512, 1024, 2048, 4096, 8192, 16384) for context in (0, 1024, 4096, 16384)
)
"""Prefilled tokens, and tokens of the same prompt prefilled before."""
# Attention kernels multiply tiles of 64 query rows, however few query heads share a KV head.
_ATTENTION_TILE_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class DerivedShape:
    """Coefficients without the engine's own time, and how well they keep what is in the tables."""

    coefficients: ShapeCoefficients
    clock_error: float
    """See ``roofline.Aggregate``."""


def derive_shape(
    measured: MeasuredModel, architecture: Architecture, gpu: GpuSpec, tensor_parallel: int, kv_capacity_tokens: int
) -> DerivedShape:
    """Fits all coefficients but the engine's overhead, which the tables of GPU operations cannot know.

    Args:
        measured: times of the operations.
        architecture: the model.
        gpu: the product that ``measured`` is of.
        tensor_parallel: GPUs of the replica.
        kv_capacity_tokens: tokens that the KV cache can hold, which bounds the contexts worth fitting.
    """
    points = samples_between(TOKENS)
    operations = measured.operations(points)
    whole = aggregate(operations, points)
    tokens_s = np.sum([op.seconds for op in operations], axis=0)

    def on_grid(values: Numbers) -> Numbers:
        return fit_broken_line(points, values, TOKENS)

    def without_attention_s(tokens: int) -> float:
        return float(np.interp(tokens, points, tokens_s)) + measured.head_s(min(tokens, REQUESTS[-1]))

    prefill = fit_prefill_attention(measured, CHUNKS, without_attention_s)
    contexts = [context for context in CONTEXTS if context <= architecture.context_tokens]
    decode = fit_decode_attention(measured, REQUESTS, contexts, kv_capacity_tokens, without_attention_s)
    head_s = np.array([measured.head_s(count) for count in REQUESTS])
    local_s = on_grid(whole.split.at(1.0, whole.norm))
    memory_s = np.minimum(on_grid(whole.split.memory_s), local_s)
    # Prefill attention in proportion to the chunk's tokens stands on the token grid, where decoding tokens pay it too:
    # they get it back on the grid of requests.
    attention_s = np.maximum(head_s + decode.fixed_s - prefill.token_s * np.array(REQUESTS), 0.0)
    step = StepCoefficients(
        reference_clock_mhz=gpu.default_clock_mhz,
        overlap_norm=whole.norm,
        tokens=TOKENS,
        memory_s=_tuple(memory_s),
        compute_s=_tuple(other_part(local_s, memory_s, whole.norm)),
        communication_s=_tuple(on_grid(whole.communication_s) + prefill.token_s * np.array(TOKENS)),
        # Prefill attention starts its kernels only where there is no decode: vLLM runs one kernel for both. The LM head
        # is read in any case, for the prefill's last token.
        requests=(0, *REQUESTS),
        attention_s=_tuple(np.array([prefill.start_s + head_s[0], *attention_s])),
        attention_context_s=_tuple(np.array([decode.context_s[0], *decode.context_s])),
        attention_compute_share=_attention_compute_share(architecture, gpu),
        pair_s=prefill.pair_s,
        iteration_overhead_s=0.0,
        request_overhead_s=0.0,
    )
    return DerivedShape(
        ShapeCoefficients(step, _work(operations, points, architecture, gpu, tensor_parallel)), whole.clock_error
    )


def with_overhead(shape: ShapeCoefficients, iteration_s: float, request_s: float) -> ShapeCoefficients:
    """The same with the engine's time per iteration and per decoding request."""
    step = replace(shape.step, iteration_overhead_s=iteration_s, request_overhead_s=request_s)
    return replace(shape, step=step)


def _work(
    operations: Sequence[TokenOperation],
    points: Sequence[int],
    architecture: Architecture,
    gpu: GpuSpec,
    tensor_parallel: int,
) -> WorkCoefficients:
    counts = np.array(TOKENS, dtype=np.float64)
    ideal_s = np.sum([op.ideal_memory_s for op in operations if op.kind is not Kind.LINK], axis=0)
    head_weights = float(architecture.vocabulary * architecture.hidden)
    # Tokens up to the most decoding requests are taken for decoding ones, of which each passes the LM head.
    flops = 2 * (active_parameters(architecture) * counts + head_weights * np.minimum(counts, REQUESTS[-1]))
    ring = 2.0 * (tensor_parallel - 1) / tensor_parallel
    full_layers = architecture.layers / (2 if architecture.sliding_window_tokens else 1)
    pair_flops = 4.0 * full_layers * architecture.heads * architecture.head_dim / tensor_parallel
    kv_heads = max(architecture.kv_heads / tensor_parallel, 1.0)
    return WorkCoefficients(
        flops=_tuple(flops / tensor_parallel),
        bytes=_tuple(np.interp(TOKENS, points, ideal_s) * gpu.memory_bytes_per_s + 2 * head_weights / tensor_parallel),
        link_bytes=_tuple(2 * architecture.layers * ring * counts * architecture.hidden * 2),
        context_bytes=full_layers * kv_heads * architecture.head_dim * 4,
        context_flops=pair_flops,
        pair_flops=pair_flops,
    )


def _attention_compute_share(architecture: Architecture, gpu: GpuSpec) -> float:
    """How much of decode attention follows the clock: its arithmetic, with tiles padded, against its memory traffic.

    It is the local slope of their p-norm with p = 2: relative growth of the time over that of 1/clock.
    """
    rows = max(_ATTENTION_TILE_ROWS, architecture.heads // architecture.kv_heads)
    compute_s = 4.0 * rows / gpu.peak_flops  # per element of the KV cache's keys
    memory_s = 4.0 / gpu.memory_bytes_per_s
    return float(compute_s**2 / (compute_s**2 + memory_s**2))


def _tuple(values: Numbers) -> tuple[float, ...]:
    return tuple(map(float, values))
