"""Measurements of a whole engine under a constant number of requests, and what its iterations are then."""

import math
from dataclasses import dataclass
from typing import Final

from dynawatt.perfmodel.models import Batch, chunk_pairs

_GENERATED_SHARE: Final = 0.75
"""Tokens that a running request has generated, relative to the mean output: (1 + v^2) / 2 for lengths with a
coefficient of variation v of 0.7, as those of chats and of reasoning have about."""


@dataclass(frozen=True, slots=True)
class ClosedLoopRow:
    """Steady state of one replica with a constant number of requests, at the GPU's default clock."""

    model: str
    """Name of the model on Hugging Face."""
    gpu: str
    """Short name of the GPU product."""
    tensor_parallel: int
    precision: str
    task: str
    max_requests: int
    """The engine's ``--max-num-seqs``."""
    requests: float
    """Mean number of running requests."""
    output_tokens: float
    """Mean per request."""
    step_s: float
    """Mean seconds per iteration, those with prefill included."""
    power_w: float
    """Mean watts per GPU."""


def steady_state(requests: float, prompt_tokens: float, output_tokens: float) -> tuple[tuple[float, Batch], ...]:
    """Iterations of a closed loop, each with its share.

    Every request that ends is replaced, so that prompts arrive at ``requests / output_tokens`` per iteration, in
    number like a Poisson process.
    """
    decoding = max(1, round(requests))
    context_tokens = round(decoding * (prompt_tokens + _GENERATED_SHARE * output_tokens))
    rate = requests / output_tokens
    spread = 6 * math.sqrt(rate) + 6
    counts = range(max(0, math.floor(rate - spread)), math.ceil(rate + spread) + 1)
    shares = [math.exp(count * math.log(rate) - rate - math.lgamma(count + 1)) for count in counts]
    total, prompt = sum(shares), round(prompt_tokens)
    return tuple(
        (share / total, Batch(decoding, context_tokens, count * prompt, count * chunk_pairs(prompt, 0)))
        for count, share in zip(counts, shares, strict=True)
    )
