from dataclasses import dataclass

import numpy as np
import pytest

from dynawatt.perfmodel.derivation.measured import Kind, TokenOperation
from dynawatt.perfmodel.models import chunk_pairs


@dataclass
class SyntheticModel:
    """A MeasuredModel whose times follow the profile's own form with known coefficients."""

    weights_s: float = 8e-3
    token_compute_s: float = 20e-6
    norm: float = 2.5
    norms_s: float = 0.2e-6
    link_start_s: float = 1e-3
    link_s: float = 2e-6
    head: float = 0.4e-3
    decode_start_s: float = 0.5e-3
    decode_request_s: float = 5e-6
    context_s: float = 40e-9
    prefill_start_s: float = 0.7e-3
    prefill_token_s: float = 0.3e-6
    pair_s: float = 0.8e-9

    def operations(self, tokens):
        counts = np.array(tokens, dtype=float)
        memory_s, compute_s = np.full_like(counts, self.weights_s), self.token_compute_s * counts
        matrix_s = (memory_s**self.norm + compute_s**self.norm) ** (1 / self.norm)
        zeros = np.zeros_like(counts)
        return [
            # The data sheet promises 1.25 times the bandwidth and 1.6 times the FLOP/s that are reached.
            TokenOperation("gemm", Kind.MATRIX, matrix_s, memory_s / 1.25, compute_s / 1.6),
            TokenOperation("norm", Kind.MEMORY, self.norms_s * counts, 0.5 * self.norms_s * counts, zeros),
            TokenOperation("all_reduce", Kind.LINK, self.link_start_s + self.link_s * counts, zeros, zeros),
        ]

    def head_s(self, requests):
        return self.head

    def decode_attention_s(self, requests, context_tokens):
        return self.decode_start_s + self.decode_request_s * requests + self.context_s * requests * context_tokens

    def prefill_attention_s(self, tokens, context_tokens):
        pairs = chunk_pairs(tokens, context_tokens)
        return self.prefill_start_s + self.prefill_token_s * tokens + self.pair_s * pairs


@pytest.fixture
def synthetic():
    return SyntheticModel
