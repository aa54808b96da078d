"""A profile by what it means: seconds and watts of typical iterations instead of coefficients."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.perfmodel.profile import ModelProfile, ReplicaProfile

CONTEXT_TOKENS: Final = 1024
"""Of each decoding request in the examples."""
_DECODE_REQUESTS: Final = (1, 8, 32, 128, 256)
_PREFILL_TOKENS: Final = (512, 2048, 8192)
_CLOCK_SHARES: Final = (1.0, 0.8, 0.6, 0.4)
"""Of the default clock."""


@dataclass(frozen=True, slots=True)
class Example:
    """One iteration at one clock."""

    decode_requests: int
    prefill_tokens: int
    clock_mhz: int
    step_s: float
    power_w: float
    """Per GPU."""


def example_clocks_mhz(profile: ModelProfile) -> list[int]:
    """A few supported clocks, the default one first."""
    clocks = profile.gpu.supported_clocks_mhz
    wanted = [share * profile.gpu.default_clock_mhz for share in _CLOCK_SHARES]
    return [min(clocks, key=lambda clock_mhz: abs(clock_mhz - target_mhz)) for target_mhz in wanted]


def examples(replica: ReplicaProfile) -> list[Example]:
    """Typical iterations that fit the KV cache and the profile's range, each at every example clock."""
    batches = [
        Batch(requests, requests * CONTEXT_TOKENS, 0, 0.0)
        for requests in _DECODE_REQUESTS
        if requests <= replica.max_decode_requests and requests * CONTEXT_TOKENS <= replica.kv_capacity_tokens
    ] + [
        Batch(0, 0, tokens, chunk_pairs(tokens, 0))
        for tokens in _PREFILL_TOKENS
        if tokens <= min(replica.max_iteration_tokens, replica.kv_capacity_tokens)
    ]
    return [
        Example(
            batch.decode_requests,
            batch.prefill_tokens,
            clock_mhz,
            replica.step_s(batch, clock_mhz),
            replica.power_w(batch, clock_mhz),
        )
        for batch in batches
        for clock_mhz in example_clocks_mhz(replica.model)
    ]


def summary_json(profile: ModelProfile) -> dict[str, Any]:
    """Everything that ``show`` tells, with units in the names."""
    gpu = profile.gpu
    return {
        "name": profile.name,
        "architecture": asdict(profile.architecture),
        "precision": profile.precision,
        "gpu": gpu.name,
        "gpu_product": gpu.product,
        "weight_bytes": profile.weight_bytes,
        "startup_s": profile.startup_s,
        "min_clock_mhz": gpu.min_clock_mhz,
        "default_clock_mhz": gpu.default_clock_mhz,
        "clock_axis": "model-derived",
        "clock_band": profile.power.clock_band,
        "power": asdict(profile.power),
        "shapes": [_shape_json(profile.replica(size)) for size in profile.tensor_parallel_sizes],
        "residuals": [asdict(residual) for residual in profile.residuals],
        "provenance": [*profile.provenance],
    }


def _shape_json(replica: ReplicaProfile) -> dict[str, Any]:
    return {
        "tensor_parallel": replica.tensor_parallel,
        "kv_capacity_tokens": replica.kv_capacity_tokens,
        "max_iteration_tokens": replica.max_iteration_tokens,
        "max_decode_requests": replica.max_decode_requests,
        "context_tokens_per_request": CONTEXT_TOKENS,
        "iterations": [asdict(example) for example in examples(replica)],
    }
