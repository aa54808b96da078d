"""What a derivation needs to know of one model on one shape: measured times of its operations."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from dynawatt.perfmodel.clocked import Numbers


class Kind(Enum):
    """What bounds an operation."""

    MATRIX = "matrix"
    """Reads weights and multiplies: bound by memory for few tokens, by arithmetic for many."""
    MEMORY = "memory"
    """Norms, activations, embeddings."""
    LINK = "link"
    """All-reduces between the GPUs of a replica."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenOperation:
    """One kind of operation of the whole model, over a grid of tokens in the iteration; arrays of that length."""

    name: str
    kind: Kind
    seconds: Numbers
    """As measured at the GPU's default clock, all layers together."""
    ideal_memory_s: Numbers
    """Bytes it must move at the data sheet's bandwidth."""
    ideal_compute_s: Numbers
    """FLOPs it must do at the data sheet's rate."""


class MeasuredModel(Protocol):
    """Measured times of one model in one precision on one GPU product at one tensor-parallel degree, in seconds."""

    def operations(self, tokens: Sequence[int]) -> list[TokenOperation]:
        """All operations whose cost depends on the number of tokens alone, on that grid."""
        ...

    def head_s(self, requests: int) -> float:
        """The LM head for one token of each request."""
        ...

    def decode_attention_s(self, requests: int, context_tokens: int) -> float:
        """Attention of decoding requests with ``context_tokens`` each, all layers."""
        ...

    def prefill_attention_s(self, tokens: int, context_tokens: int) -> float:
        """Attention of one chunk of ``tokens`` after ``context_tokens`` already in the KV cache, all layers."""
        ...
