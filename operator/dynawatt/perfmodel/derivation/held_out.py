"""Compares a derived profile with the measured operations at points that had no part in its fit."""

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np

from dynawatt.perfmodel.clocked import ClockedReplica
from dynawatt.perfmodel.derivation.measured import MeasuredModel
from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.perfmodel.power_fit import residual
from dynawatt.perfmodel.profile import Residual

_Point: TypeAlias = tuple[int, int, int, int]
"""Decoding requests, context of each, prefilled tokens, their context."""

# Numbers of requests and tokens, and contexts, between all those that profiles are fitted at.
_REQUESTS: Final = (11, 19, 38, 58, 78, 110, 150, 230, 310, 430, 610, 900)
_CONTEXTS: Final = (100, 360, 700, 1500, 3000, 6000, 12000, 24000)
_CHUNKS: Final = (50, 115, 180, 350, 700, 1300, 2500, 3600, 5000, 7000, 10000, 14000)
_CHUNK_CONTEXTS: Final = (0, 600, 3000, 12000)
_MIXED_REQUESTS: Final = (11, 58, 150, 310)
_MIXED_CHUNKS: Final = (100, 450, 900, 1900, 5000)
_MIXED_CONTEXTS: Final = (360, 1500)


def held_out_residuals(
    replica: ClockedReplica, measured: MeasuredModel, capacity_tokens: int, context_tokens: int, dataset: str
) -> tuple[Residual, ...]:
    """Errors of decode steps, of prefill steps, and of steps with both.

    Attention of both kinds was measured in kernels of its own. FlashAttention under vLLM runs one kernel for both, so
    that mixed steps pay the start of a kernel once; other backends run two. Errors are given for each.

    Args:
        replica: at the clock of the measurement, without the engine's overhead.
        measured: the operations; a step is their sum.
        capacity_tokens: what the KV cache holds; larger batches are left out.
        context_tokens: longest sequence of the model.
        dataset: name of the measurements.
    """
    second_start_s = measured.prefill_attention_s(1, 0)
    mixed = list(_mixed(capacity_tokens))
    cases = (
        ("decode_step", dataset, _decode(capacity_tokens, context_tokens), 0.0),
        ("prefill_step", dataset, _prefill(context_tokens), 0.0),
        ("prefill_step", f"{dataset}, mixed, one kernel", mixed, second_start_s),
        ("prefill_step", f"{dataset}, mixed, two kernels", mixed, 0.0),
    )
    found = []
    for quantity, name, points, saved_s in cases:
        pairs = [(_modelled_s(replica, *point), _measured_s(measured, *point) - saved_s) for point in points]
        if pairs:
            modelled_s, measured_s = np.array(pairs).T
            found.append(residual(name, quantity, modelled_s, measured_s, held_out=True))
    return tuple(found)


def _decode(capacity_tokens: int, context_tokens: int) -> Iterator[_Point]:
    for requests in _REQUESTS:
        for context in _CONTEXTS:
            if context <= context_tokens and requests * context <= capacity_tokens:
                yield requests, context, 0, 0


def _prefill(context_tokens: int) -> Iterator[_Point]:
    for tokens in _CHUNKS:
        for context in _CHUNK_CONTEXTS:
            if tokens + context <= context_tokens:
                yield 0, 0, tokens, context


def _mixed(capacity_tokens: int) -> Iterator[_Point]:
    for requests in _MIXED_REQUESTS:
        for context in _MIXED_CONTEXTS:
            for tokens in _MIXED_CHUNKS:
                if requests * context + tokens <= capacity_tokens:
                    yield requests, context, tokens, 0


def _modelled_s(replica: ClockedReplica, requests: int, context: int, chunk: int, chunk_context: int) -> float:
    return replica.step_s(Batch(requests, requests * context, chunk, chunk_pairs(chunk, chunk_context)))


def _measured_s(measured: MeasuredModel, requests: int, context: int, chunk: int, chunk_context: int) -> float:
    seconds = sum(float(op.seconds[0]) for op in measured.operations((requests + chunk,)))
    seconds += measured.head_s(max(1, requests))
    if requests:
        seconds += measured.decode_attention_s(requests, context)
    if chunk:
        seconds += measured.prefill_attention_s(chunk, chunk_context)
    return seconds
