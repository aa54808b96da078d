"""What a performance model must answer: seconds and watts of one iteration.

Everything above this module (surfaces, planner, simulator, the sandbox's vLLM
pods) knows only these two Protocols; profiles implement them.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Batch:
    """The work of one continuous-batching iteration of one replica."""

    decode_requests: int
    """Requests that generate one token each."""
    decode_context_tokens: int
    """Sum of the tokens these requests have in the KV cache."""
    prefill_tokens: int
    """Prompt tokens processed in this iteration, over all requests."""
    prefill_pairs: float
    """Sum of ``chunk_pairs`` over the prefilled chunks.

    A sum over chunks, because several short prompts attend to far fewer tokens than one long one of the same total.
    """


def chunk_pairs(tokens: float, context_tokens: float) -> float:
    """Query-key pairs that attention computes for a prompt chunk.

    Each token attends to the ``context_tokens`` that its prompt already has in the KV cache, to those before it in the
    chunk, and to itself.
    """
    return tokens * (context_tokens + (tokens + 1) / 2)


class StepModel(Protocol):
    """Seconds of one iteration of a replica of one shape."""

    def step_s(self, batch: Batch, clock_mhz: float) -> float:
        """Wall time of the iteration in seconds with all GPUs of the replica at ``clock_mhz``."""
        ...


class PowerModel(Protocol):
    """Watts of each GPU of a replica of one shape."""

    def power_w(self, batch: Batch, clock_mhz: float) -> float:
        """Mean power per GPU in watts while the iteration runs."""
        ...

    def loaded_idle_w(self, clock_mhz: float) -> float:
        """Power per GPU in watts with the model loaded and no work, at the given SM clock."""
        ...

    @property
    def released_w(self) -> float:
        """Power in watts of a GPU that no pod has requested."""
        ...
