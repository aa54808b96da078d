"""Step time and power of a dense transformer by roofline, one coefficient set per GPU.

One iteration streams the weights and the KV cache once (time set by HBM) and
multiplies them with every token (time set by the tensor cores, hence by the SM
clock); the two overlap only partly, so they join by a p-norm. All-reduces and
the engine's own work per iteration and per sequence come on top.

The coefficients are fitted by hand to the ML.ENERGY v3 measurements (vLLM,
H100, default clock; Llama-3.1-70B at TP4, 8B at TP1, batch 8 to 256: inter-token
latency within 10 %, watts within 10 % for 70B and 20 % for 8B). Nobody has
published watts over the clock of an H100 under LLM load, so the clock axis is
physics (switching power goes with V^2 f), with the part that follows the clock
chosen so that small decode batches save what is published for H200 from 1980 to
780 MHz: 47 to 90 W (arXiv 2605.11999).
"""

import math
from dataclasses import dataclass
from typing import Final

from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.perfmodel.models import Batch

_BYTES_PER_WEIGHT: Final = 2  # bf16
_BYTES_PER_ACTIVATION: Final = 2

_MEMORY_EFFICIENCY: Final = 0.80
_COMPUTE_EFFICIENCY: Final = 0.60
_OVERLAP_NORM: Final = 1.6  # 1 would be no overlap of memory and compute, infinity a full one
_ITERATION_OVERHEAD_S: Final = 1.3e-3
_SEQUENCE_OVERHEAD_S: Final = 30e-6
_ALL_REDUCE_LATENCY_S: Final = 13e-6
_ALL_REDUCES_PER_LAYER: Final = 2

# SMs that run kernels draw this beyond idle: a part whatever the clock, and a part at the default clock.
_ACTIVE_STATIC_W: Final = 65.0
_ACTIVE_CLOCKED_W: Final = 45.0
_J_PER_BYTE: Final = 100e-12
_J_PER_FLOP: Final = 1.2e-12  # at the default clock's voltage


@dataclass(frozen=True, slots=True)
class Architecture:
    """A dense decoder-only transformer with grouped-query attention, in bf16."""

    name: str
    parameters: float
    layers: int
    hidden: int
    kv_heads: int
    head_dim: int

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights."""
        return self.parameters * _BYTES_PER_WEIGHT

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values of one token over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * _BYTES_PER_ACTIVATION


@dataclass(frozen=True, slots=True)
class RooflineModel:
    """StepModel and PowerModel of one replica: an architecture over ``tensor_parallel`` GPUs."""

    architecture: Architecture
    gpu: GpuSpec
    tensor_parallel: int

    def step_s(self, batch: Batch, clock_mhz: float) -> float:
        """Seconds of one iteration."""
        memory_s = self._bytes(batch) / (self.gpu.memory_bytes_per_s * _MEMORY_EFFICIENCY)
        slowdown = self.gpu.default_clock_mhz / clock_mhz
        compute_s = self._flops(batch) * slowdown / (self.gpu.peak_flops * _COMPUTE_EFFICIENCY)
        overlapped_s = math.pow(memory_s**_OVERLAP_NORM + compute_s**_OVERLAP_NORM, 1 / _OVERLAP_NORM)
        overhead_s = _ITERATION_OVERHEAD_S + batch.decode_requests * _SEQUENCE_OVERHEAD_S
        return overlapped_s + self._all_reduce_s(batch) + overhead_s

    def power_w(self, batch: Batch, clock_mhz: float) -> float:
        """Mean watts per GPU during one iteration, capped at TDP."""
        step_s = self.step_s(batch, clock_mhz)
        moved_w = _J_PER_BYTE * self._bytes(batch) / step_s
        voltage = self.gpu.relative_voltage(clock_mhz)
        computed_w = _J_PER_FLOP * voltage**2 * self._flops(batch) / step_s
        active_w = _ACTIVE_STATIC_W + _ACTIVE_CLOCKED_W * self.gpu.relative_switching(clock_mhz)
        return min(self.gpu.tdp_w, self.loaded_idle_w(clock_mhz) + active_w + moved_w + computed_w)

    def loaded_idle_w(self, clock_mhz: float) -> float:
        """Watts per GPU with the model loaded and nothing to do."""
        return self.gpu.idle_static_w + self.gpu.idle_clocked_w * self.gpu.relative_switching(clock_mhz)

    @property
    def released_w(self) -> float:
        """Watts of a GPU that no pod requested."""
        return self.gpu.released_w

    def _flops(self, batch: Batch) -> float:
        """FLOPs per GPU: weights times tokens, and attention of every new token over its context."""
        tokens = batch.decode_requests + batch.prefill_tokens
        pairs = float(batch.decode_context_tokens)
        if batch.prefill_tokens:
            pairs += batch.prefill_tokens * (batch.prefill_context_tokens + batch.prefill_tokens / 2)
        attention = 4.0 * self.architecture.layers * self.architecture.hidden * pairs
        return (2.0 * self.architecture.parameters * tokens + attention) / self.tensor_parallel

    def _bytes(self, batch: Batch) -> float:
        """HBM bytes per GPU: all weights once, and the KV cache of everything that attends to it."""
        context = batch.decode_context_tokens + batch.prefill_context_tokens + batch.prefill_tokens
        kv_bytes = context * self.architecture.kv_bytes_per_token
        return (self.architecture.weight_bytes + kv_bytes) / self.tensor_parallel

    def _all_reduce_s(self, batch: Batch) -> float:
        if self.tensor_parallel == 1:
            return 0.0
        tokens = batch.decode_requests + batch.prefill_tokens
        payload = tokens * self.architecture.hidden * _BYTES_PER_ACTIVATION
        ring = 2.0 * (self.tensor_parallel - 1) / self.tensor_parallel
        once_s = _ALL_REDUCE_LATENCY_S + ring * payload / self.gpu.link_bytes_per_s
        return _ALL_REDUCES_PER_LAYER * self.architecture.layers * once_s
