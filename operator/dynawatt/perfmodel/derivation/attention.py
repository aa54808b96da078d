"""Fits of measured attention to the straight lines that the simulator adds up in closed form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dynawatt.perfmodel.clocked import Numbers
from dynawatt.perfmodel.derivation.measured import MeasuredModel
from dynawatt.perfmodel.models import chunk_pairs
from dynawatt.perfmodel.nonnegative import nonnegative_least_squares


@dataclass(frozen=True, slots=True, eq=False)
class DecodeAttention:
    """Seconds by number of decoding requests: ``fixed_s + context_s * (tokens of all their contexts)``."""

    fixed_s: Numbers
    context_s: Numbers


@dataclass(frozen=True, slots=True)
class PrefillAttention:
    """Seconds of a chunk: ``start_s + token_s * tokens + pair_s * query-key pairs``."""

    start_s: float
    token_s: float
    pair_s: float


def fit_decode_attention(
    measured: MeasuredModel,
    requests: Sequence[int],
    contexts: Sequence[int],
    capacity_tokens: int,
    rest_s: Callable[[int], float],
) -> DecodeAttention:
    """One line over the context for each number of requests.

    Errors count relative to the whole step, of which ``rest_s(requests)`` is all but attention. Only contexts that
    the KV cache of ``capacity_tokens`` can hold take part, but at least the two shortest.
    """
    fixed_s, context_s = np.zeros(len(requests)), np.zeros(len(requests))
    for index, count in enumerate(requests):
        fitting = [context for context in contexts if count * context <= capacity_tokens]
        used = fitting if len(fitting) > 1 else list(contexts[:2])
        seconds = np.array([measured.decode_attention_s(count, context) for context in used])
        columns = np.stack([np.ones(len(used)), count * np.array(used, dtype=np.float64)], axis=1)
        fixed_s[index], context_s[index] = _relative_fit(columns, seconds, seconds + rest_s(count))
    return DecodeAttention(fixed_s, context_s)


def fit_prefill_attention(
    measured: MeasuredModel,
    chunks: Sequence[tuple[int, int]],
    rest_s: Callable[[int], float],
) -> PrefillAttention:
    """One plane over ``chunks`` of (tokens, context tokens); errors relative to the step as in decode."""
    seconds = np.array([measured.prefill_attention_s(tokens, context) for tokens, context in chunks])
    columns = np.array([[1.0, tokens, chunk_pairs(tokens, context)] for tokens, context in chunks])
    whole_s = seconds + np.array([rest_s(tokens) for tokens, _ in chunks])
    start_s, token_s, pair_s = _relative_fit(columns, seconds, whole_s)
    return PrefillAttention(float(start_s), float(token_s), float(pair_s))


def _relative_fit(columns: Numbers, seconds: Numbers, whole_s: Numbers) -> Numbers:
    """Non-negative coefficients with the least squared error relative to ``whole_s``."""
    scale = columns.max(axis=0)
    coefficients = nonnegative_least_squares(columns / scale / whole_s[:, None], seconds / whole_s)
    return np.asarray(coefficients / scale)
