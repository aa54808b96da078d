"""Coefficients from recorded times of a whole engine, where no operation was measured alone.

Used for the 2023 engine of the Splitwise and DynamoLLM papers. Recorded are the
seconds of one prefill of a batch of equal prompts, and of one decode step. What
streams the weights is known from their size; what else a decode step of one
request takes is the engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import Architecture
from dynawatt.perfmodel.clocked import Numbers
from dynawatt.perfmodel.derivation.roofline import other_part
from dynawatt.perfmodel.derivation.weights import active_parameters, weight_bytes
from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.perfmodel.models import chunk_pairs
from dynawatt.perfmodel.nonnegative import nonnegative_least_squares
from dynawatt.perfmodel.power_fit import residual
from dynawatt.perfmodel.profile import Residual, ShapeCoefficients, StepCoefficients, WorkCoefficients

_MEMORY_EFFICIENCY: Final = 0.8
_LINK_EFFICIENCY: Final = 0.5
"""Of large all-reduces at the time, a round figure: the recording does not tell."""
_NORM: Final = 2.0
_KNOTS: Final = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_BYTES: Final = 2.0  # of bf16


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """One run: a batch of equal prompts, then decode."""

    tensor_parallel: int
    prompt_tokens: int
    requests: int
    output_tokens: int
    prompt_s: float
    """Of the whole batch's prefill."""
    token_s: float
    """Mean of a decode step."""


@dataclass(frozen=True, slots=True)
class RecordedShape:
    """Coefficients, and how well they reproduce the rows they were fitted to."""

    coefficients: ShapeCoefficients
    residuals: tuple[Residual, ...]


def derive_recorded_shape(
    rows: Sequence[RecordedRow], architecture: Architecture, gpu: GpuSpec, dataset: str
) -> RecordedShape:
    """Fits the rows of one tensor-parallel degree. Raises InvalidInputError when they do not suffice."""
    sizes = {row.tensor_parallel for row in rows}
    if len(sizes) != 1:
        raise InvalidInputError(f"{dataset}: rows of one tensor-parallel degree are needed, got {len(sizes)}")
    size = sizes.pop()
    kept = _plausible(_medians(rows))
    requests, decode_s, context_s = _decode(kept, dataset)
    prefill_s, pair_s = _prefill(kept, dataset)

    stream_s = weight_bytes(architecture, "bf16") / size / (gpu.memory_bytes_per_s * _MEMORY_EFFICIENCY)
    iteration_s = max(0.0, decode_s[0] - stream_s)
    tokens = (1, *_KNOTS)
    tokens_s = np.maximum.accumulate(np.array([decode_s[0], *prefill_s])) - iteration_s
    work = _work(architecture, size, tokens)
    link_s = np.minimum(np.array(work.link_bytes) / (gpu.link_bytes_per_s * _LINK_EFFICIENCY), 0.4 * tokens_s)
    memory_s = np.minimum(stream_s, tokens_s - link_s)
    step = StepCoefficients(
        reference_clock_mhz=gpu.default_clock_mhz,
        overlap_norm=_NORM,
        tokens=tokens,
        memory_s=tuple(map(float, memory_s)),
        compute_s=tuple(map(float, other_part(tokens_s - link_s, memory_s, _NORM))),
        communication_s=tuple(map(float, link_s)),
        requests=(0, *requests),
        attention_s=tuple(
            max(0.0, float(seconds - iteration_s - np.interp(count, tokens, tokens_s)))
            for count, seconds in zip((0, *requests), (0.0, *decode_s), strict=True)
        ),
        attention_context_s=(context_s,) * (len(requests) + 1),
        attention_compute_share=0.1,
        pair_s=pair_s,
        iteration_overhead_s=iteration_s,
        request_overhead_s=0.0,
    )
    shape = ShapeCoefficients(step, work)
    return RecordedShape(shape, _residuals(kept, step, f"{dataset}, TP {size}"))


def _medians(rows: Sequence[RecordedRow]) -> list[RecordedRow]:
    """One row for each prompt length and batch, the output that most runs had."""
    groups: dict[tuple[int, int], list[RecordedRow]] = {}
    for row in rows:
        groups.setdefault((row.prompt_tokens, row.requests), []).append(row)
    return [
        RecordedRow(
            tensor_parallel=group[0].tensor_parallel,
            prompt_tokens=prompt,
            requests=requests,
            output_tokens=int(np.median([row.output_tokens for row in group])),
            prompt_s=float(np.median([row.prompt_s for row in group])),
            token_s=float(np.median([row.token_s for row in group])),
        )
        for (prompt, requests), group in sorted(groups.items())
    ]


def _plausible(rows: Sequence[RecordedRow]) -> list[RecordedRow]:
    """Without runs that prefilled more of the same prompts in less time: those did not run as one batch."""
    return [
        row
        for row in rows
        if not any(
            other.prompt_tokens == row.prompt_tokens and other.requests < row.requests and other.prompt_s > row.prompt_s
            for other in rows
        )
    ]


def _decode(rows: Sequence[RecordedRow], dataset: str) -> tuple[tuple[int, ...], Numbers, float]:
    """Numbers of requests, their decode step without context, and seconds per token of context."""
    single = [row for row in rows if row.requests == 1]
    if len(single) < 2:
        raise InvalidInputError(f"{dataset}: at least two prompt lengths with one request are needed")
    columns = np.array([[1.0, _context(row)] for row in single])
    seconds = np.array([row.token_s for row in single])
    scale = columns.max(axis=0)
    fitted = nonnegative_least_squares(columns / scale, seconds)
    context_s = float(fitted[1] / scale[1])
    counts = sorted({row.requests for row in rows})
    bare = [
        np.mean([row.token_s - context_s * row.requests * _context(row) for row in rows if row.requests == count])
        for count in counts
    ]
    return tuple(counts), np.maximum.accumulate(np.array(bare, dtype=np.float64)), context_s


def _prefill(rows: Sequence[RecordedRow], dataset: str) -> tuple[Numbers, float]:
    """Seconds over the knots without query-key pairs, and seconds per pair."""
    used = [row for row in rows if _KNOTS[0] <= row.prompt_tokens * row.requests <= _KNOTS[-1]]
    if len(used) <= len(_KNOTS):
        raise InvalidInputError(f"{dataset}: {len(used)} prefills recorded: more than {len(_KNOTS)} are needed")
    totals = [row.prompt_tokens * row.requests for row in used]
    pairs = np.array([row.requests * chunk_pairs(row.prompt_tokens, 0) for row in used])
    hats = np.stack([np.interp(totals, _KNOTS, unit) for unit in np.eye(len(_KNOTS))], axis=1)
    seconds = np.array([row.prompt_s for row in used])
    columns = np.column_stack([hats, pairs / pairs.max()])
    fitted = nonnegative_least_squares(columns / seconds[:, None], np.ones(len(used)))
    return fitted[:-1], float(fitted[-1] / pairs.max())


def _context(row: RecordedRow) -> float:
    return row.prompt_tokens + row.output_tokens / 2


def _work(architecture: Architecture, size: int, tokens: Sequence[int]) -> WorkCoefficients:
    counts = np.array(tokens, dtype=np.float64)
    ring = 2.0 * (size - 1) / size
    pair_flops = 4.0 * architecture.layers * architecture.heads * architecture.head_dim / size
    return WorkCoefficients(
        flops=tuple(map(float, 2 * active_parameters(architecture) * counts / size)),
        bytes=(weight_bytes(architecture, "bf16") / size,) * len(tokens),
        link_bytes=tuple(map(float, 2 * architecture.layers * ring * counts * architecture.hidden * _BYTES)),
        context_bytes=architecture.kv_bytes_per_token / size * max(1.0, size / architecture.kv_heads),
        context_flops=pair_flops,
        pair_flops=pair_flops,
    )


def _residuals(rows: Sequence[RecordedRow], step: StepCoefficients, dataset: str) -> tuple[Residual, ...]:
    local_s = (np.array(step.memory_s) ** _NORM + np.array(step.compute_s) ** _NORM) ** (1 / _NORM)
    tokens_s = local_s + np.array(step.communication_s) + step.iteration_overhead_s

    def decode(row: RecordedRow) -> float:
        return float(
            np.interp(row.requests, step.tokens, tokens_s)
            + np.interp(row.requests, step.requests, step.attention_s)
            + step.attention_context_s[0] * row.requests * _context(row)
        )

    def prefill(row: RecordedRow) -> float:
        pairs = row.requests * chunk_pairs(row.prompt_tokens, 0)
        return float(np.interp(row.prompt_tokens * row.requests, step.tokens, tokens_s) + step.pair_s * pairs)

    covered = [row for row in rows if row.prompt_tokens * row.requests <= step.tokens[-1]]
    sets: Mapping[str, tuple[list[float], list[float]]] = {
        "decode_step": ([decode(row) for row in rows], [row.token_s for row in rows]),
        "prefill_step": ([prefill(row) for row in covered], [row.prompt_s for row in covered]),
    }
    return tuple(
        residual(dataset, quantity, np.array(modelled), np.array(measured), held_out=False)
        for quantity, (modelled, measured) in sets.items()
    )
