"""What decides how long a model takes: its architecture, by the values of its config.json, and its precision."""

from dataclasses import dataclass
from typing import Final

_BYTES_PER_ACTIVATION: Final = 2


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder-only transformer with grouped-query attention; dense, or with a mixture of experts in every layer."""

    name: str
    parameters: float
    """All weights, those of every expert included."""
    layers: int
    hidden: int
    intermediate: int
    """Width of the feed-forward block, of one expert where there are several."""
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context_tokens: int
    """Longest sequence of the model."""
    experts: int = 1
    experts_per_token: int = 1
    sliding_window_tokens: int = 0
    """Window of every second layer; 0 where all layers attend to everything."""

    @property
    def full_attention_layers(self) -> int:
        """Layers that attend to the whole context."""
        return self.layers // 2 if self.sliding_window_tokens else self.layers

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one more token of context takes, in 16 bits.

        Layers with a sliding window keep no more than the window, so a longer context costs nothing in them.
        """
        return 2 * self.full_attention_layers * self.kv_heads * self.head_dim * _BYTES_PER_ACTIVATION


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as a profile sees it, whatever it is called."""

    architecture: Architecture
    precision: str
    """``bf16`` (which float16 equals in time and energy), ``fp8`` or ``mxfp4``."""
