"""What of a load fits into a model's context window."""

from dataclasses import dataclass

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.workload.trace import Trace


@dataclass(frozen=True, slots=True)
class FitCount:
    """How many requests a context limit changed."""

    dropped: int = 0
    """Their input leaves no room for a single output token."""
    clipped: int = 0
    """Their output was cut to what fits."""

    def __add__(self, other: "FitCount") -> "FitCount":
        """Counts of two pieces of a load."""
        return FitCount(self.dropped + other.dropped, self.clipped + other.clipped)


def fit_to_context(trace: Trace, context_tokens: int) -> tuple[Trace, FitCount]:
    """The requests that a model with this context window serves, as vLLM would serve them.

    An input longer than the context minus one token is refused: the request is dropped. An output that would reach
    beyond the context ends there. Raises InvalidInputError when the context holds no request at all.
    """
    if context_tokens < 2:
        raise InvalidInputError(f"context of {context_tokens} tokens: must be at least 2, one in and one out")
    room = context_tokens - trace.input_tokens
    kept, too_long = room >= 1, trace.output_tokens > room
    count = FitCount(dropped=int(np.count_nonzero(~kept)), clipped=int(np.count_nonzero(kept & too_long)))
    if count == FitCount():
        return trace, count
    return (
        Trace(trace.arrival_s[kept], trace.input_tokens[kept], np.minimum(trace.output_tokens, room)[kept]),
        count,
    )
