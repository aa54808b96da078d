"""A profile: what a model on a GPU product costs per iteration, for each tensor-parallel degree.

An iteration is a sum of operations. Those whose cost depends only on how many
tokens are processed (weights, all-reduces, norms) stand on a grid of token
counts, split into a part bound by memory, which no SM clock changes, and a part
bound by arithmetic, which scales with 1/clock; where both matter they join by a
p-norm. Attention comes on top: linear in the context of decoding requests, and
in the query-key pairs of prefills. The engine's own time per iteration and per
request does not follow the GPU's clock.

Power is what a GPU draws idle and with running kernels, plus energy per byte,
per FLOP, per byte sent to other GPUs and per logit of the tokens it samples. What
the core spends falls with the square of its voltage, hence with the clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architecture import Architecture
from dynawatt.perfmodel.clocked import ClockedReplica, Numbers
from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.perfmodel.models import Batch

_GPU_MEMORY_UTILISATION: Final = 0.9  # vLLM's default of --gpu-memory-utilization
_ACTIVATION_BYTES: Final = 4e9  # activations and CUDA graphs per GPU, a round figure


@dataclass(frozen=True, slots=True)
class StepCoefficients:
    """Seconds, at the reference clock. Sequences on one grid are as long as that grid."""

    reference_clock_mhz: float
    overlap_norm: float
    """p of (memory^p + compute^p)^(1/p): 1 would be no overlap of both, infinity a full one."""
    tokens: tuple[int, ...]
    """Grid of tokens in an iteration, ascending from 1; its last is the profile's limit."""
    memory_s: tuple[float, ...]
    compute_s: tuple[float, ...]
    communication_s: tuple[float, ...]
    """All-reduces between the replica's GPUs, and the small part of prefill attention in proportion to its tokens."""
    requests: tuple[int, ...]
    """Grid of decoding requests, ascending from 0; its last is the profile's limit."""
    attention_s: tuple[float, ...]
    """Of decoding requests, without that in proportion to their context; the LM head of each token included."""
    attention_context_s: tuple[float, ...]
    """Per token of the decoding requests' context."""
    attention_compute_share: float
    """Part of both attention terms that scales with 1/clock."""
    pair_s: float
    """Per query-key pair of prefilled chunks; scales with 1/clock."""
    iteration_overhead_s: float
    request_overhead_s: float
    """Per decoding request."""


@dataclass(frozen=True, slots=True)
class WorkCoefficients:
    """What an iteration does on each GPU; sequences on the grid of tokens."""

    flops: tuple[float, ...]
    bytes: tuple[float, ...]
    link_bytes: tuple[float, ...]
    context_bytes: float
    """Bytes read per token of the decoding requests' context."""
    context_flops: float
    pair_flops: float


@dataclass(frozen=True, slots=True)
class PowerCoefficients:
    """Energy of work on one GPU product in one precision, at the default clock's voltage."""

    j_per_byte: float
    """Of weights and activations: reading them and feeding them to the tensor cores."""
    j_per_context_byte: float
    """Of keys and values, streamed by attention kernels."""
    byte_core_share: float
    """Part of both, and of logits, that caches and SMs take, at the core's voltage; the rest is the memory's own."""
    j_per_flop: float
    j_per_link_byte: float
    j_per_logit: float
    """Of a decoding request's next token, times the vocabulary, on each GPU: every one samples all logits.

    That sampling takes it is an inference. Measured is energy per generated token beyond the other terms; scaling it
    with the vocabulary fits best, but activations and small kernels, also per token, may be part of it.
    """
    active_static_w: float
    """Drawn by running kernels beyond idle, at any clock."""
    active_clocked_w: float
    """The same at the default clock, falling with V^2 f."""
    clock_band: float
    """Relative uncertainty of what the model says a lower clock saves."""


@dataclass(frozen=True, slots=True)
class Residual:
    """How far the profile is from one set of measurements."""

    dataset: str
    quantity: str
    """``decode_step``, ``prefill_step``, ``mean_step``, ``power`` or ``clock_shape``."""
    points: int
    median_abs_error: float
    """Relative, as are all errors."""
    p90_abs_error: float
    mean_abs_error: float
    held_out: bool
    """Whether these points had no part in the fit."""


@dataclass(frozen=True, slots=True)
class ShapeCoefficients:
    """All that depends on the tensor-parallel degree."""

    step: StepCoefficients
    work: WorkCoefficients


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """One model architecture in one precision on one GPU product."""

    name: str
    architecture: Architecture
    precision: str
    """``bf16``, ``fp8`` or ``mxfp4``."""
    gpu: GpuSpec
    weight_bytes: float
    """Of the whole model in this precision."""
    power: PowerCoefficients
    shapes: Mapping[int, ShapeCoefficients]
    """By tensor-parallel degree."""
    startup_s: float
    """From the creation of a pod to Ready, weights on local disk."""
    provenance: tuple[str, ...]
    residuals: tuple[Residual, ...]

    @property
    def tensor_parallel_sizes(self) -> list[int]:
        """Degrees the profile has coefficients for, ascending."""
        return sorted(self.shapes)

    def replica(self, tensor_parallel: int) -> "ReplicaProfile":
        """The models of a replica. Raises InvalidInputError when the profile does not cover the degree."""
        if tensor_parallel not in self.shapes:
            known = ", ".join(str(size) for size in self.tensor_parallel_sizes)
            raise InvalidInputError(
                f"tensor parallelism {tensor_parallel} of {self.name}: the profile covers {known}; "
                "at the others the weights do not fit or nothing is measured"
            )
        return ReplicaProfile(self, tensor_parallel)


@dataclass(frozen=True, slots=True, eq=False)
class ReplicaProfile:
    """StepModel and PowerModel of one replica: a profile at one tensor-parallel degree."""

    model: ModelProfile
    tensor_parallel: int
    time_factor: float = 1.0
    """Seconds of every iteration over what the profile's coefficients say: learnt from live replicas."""
    power_factor: float = 1.0
    """The same of all watts of a GPU that a pod holds."""
    _clocked: dict[float, ClockedReplica] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Profile and degree."""
        return f"{self.model.name}-tp{self.tensor_parallel}"

    @property
    def gpu(self) -> GpuSpec:
        """The GPU product."""
        return self.model.gpu

    @property
    def max_iteration_tokens(self) -> int:
        """Most tokens per iteration that the profile covers."""
        return self.model.shapes[self.tensor_parallel].step.tokens[-1]

    @property
    def max_decode_requests(self) -> int:
        """Most decoding requests that the profile covers."""
        return self.model.shapes[self.tensor_parallel].step.requests[-1]

    @property
    def kv_capacity_tokens(self) -> int:
        """Tokens that the KV cache holds, at vLLM's default memory utilisation."""
        usable_bytes = self.gpu.memory_bytes * _GPU_MEMORY_UTILISATION - _ACTIVATION_BYTES
        kv_bytes = self.tensor_parallel * usable_bytes - self.model.weight_bytes
        # Below one KV head per GPU the heads are replicated.
        replication = max(1.0, self.tensor_parallel / self.model.architecture.kv_heads)
        return max(0, int(kv_bytes // (self.model.architecture.kv_bytes_per_token * replication)))

    @property
    def released_w(self) -> float:
        """Watts of a GPU that no pod requested."""
        return self.gpu.released_w

    def calibrated(self, *, time_factor: float = 1.0, power_factor: float = 1.0) -> "ReplicaProfile":
        """The same replica with other factors, in place of those it has.

        Surfaces, fingerprints and governor tables all come from ``at_clock`` and follow. The power limit is scaled as
        well, so that a surface of one power factor is that of another one times their ratio. Raises InvalidInputError.
        """
        for name, factor in (("time_factor", time_factor), ("power_factor", power_factor)):
            if not 0 < factor < inf:
                raise InvalidInputError(f"{name} {factor} of {self.name}: must be above 0")
        return ReplicaProfile(self.model, self.tensor_parallel, time_factor, power_factor)

    def loaded_idle_w(self, clock_mhz: float) -> float:
        """Watts per GPU with the model loaded and nothing to do."""
        return self.power_factor * self.gpu.loaded_idle_w(clock_mhz)

    def step_s(self, batch: Batch, clock_mhz: float) -> float:
        """Seconds of one iteration. Raises ValueError outside the profile's range."""
        return self.at_clock(clock_mhz).step_s(batch)

    def power_w(self, batch: Batch, clock_mhz: float) -> float:
        """Mean watts per GPU during one iteration, at most TDP."""
        clocked = self.at_clock(clock_mhz)
        return clocked.energy_j(batch) / clocked.step_s(batch)

    def at_clock(self, clock_mhz: float) -> ClockedReplica:
        """All costs at one clock. Raises InvalidInputError for a clock the GPU does not have."""
        known = self._clocked.get(clock_mhz)
        if known is None:
            own = self._make(clock_mhz)
            known = self._clocked[clock_mhz] = own.scaled(self.time_factor, self.power_factor)
        return known

    def _make(self, clock_mhz: float) -> ClockedReplica:
        """As the coefficients say, without factors."""
        gpu, power = self.gpu, self.model.power
        if not gpu.min_clock_mhz <= clock_mhz <= gpu.default_clock_mhz:
            raise InvalidInputError(
                f"clock {clock_mhz} MHz of {gpu.name}: must be between {gpu.min_clock_mhz} and {gpu.default_clock_mhz}"
            )
        shape = self.model.shapes[self.tensor_parallel]
        step, work = shape.step, shape.work
        slowdown = step.reference_clock_mhz / clock_mhz
        attention = 1 + step.attention_compute_share * (slowdown - 1)
        voltage_squared = gpu.relative_voltage(clock_mhz) ** 2
        j_per_flop = power.j_per_flop * voltage_squared
        moving = 1 - power.byte_core_share * (1 - voltage_squared)
        requests = _array(step.requests)
        return ClockedReplica(
            clock_mhz=clock_mhz,
            tokens=_array(step.tokens),
            tokens_s=_p_norm(_array(step.memory_s), _array(step.compute_s) * slowdown, step.overlap_norm)
            + _array(step.communication_s),
            tokens_j=_array(work.bytes) * (power.j_per_byte * moving)
            + _array(work.flops) * j_per_flop
            + _array(work.link_bytes) * power.j_per_link_byte,
            requests=requests,
            requests_s=_array(step.attention_s) * attention + requests * step.request_overhead_s,
            request_j=self.model.architecture.vocabulary * power.j_per_logit * moving,
            context_s=_array(step.attention_context_s) * attention,
            context_j=work.context_bytes * power.j_per_context_byte * moving + work.context_flops * j_per_flop,
            pair_s=step.pair_s * slowdown,
            pair_j=work.pair_flops * j_per_flop,
            iteration_s=step.iteration_overhead_s,
            active_w=gpu.loaded_idle_w(clock_mhz)
            + power.active_static_w
            + power.active_clocked_w * gpu.relative_switching(clock_mhz),
            idle_w=gpu.loaded_idle_w(clock_mhz),
            tdp_w=gpu.tdp_w,
        )


def _array(values: tuple[float, ...] | tuple[int, ...]) -> Numbers:
    return np.array(values, dtype=np.float64)


def _p_norm(a: Numbers, b: Numbers, p: float) -> Numbers:
    return np.asarray((a**p + b**p) ** (1 / p))
