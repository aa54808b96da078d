"""A model of round figures, about 8 billion parameters on one H100, that no shipped profile ever changes."""

from dynawatt.perfmodel.architecture import Architecture
from dynawatt.perfmodel.gpus import gpu_by_name
from dynawatt.perfmodel.profile import (
    ModelProfile,
    PowerCoefficients,
    ShapeCoefficients,
    StepCoefficients,
    WorkCoefficients,
)

_TOKENS = (1, 256, 16384)


def small_replica():
    step = StepCoefficients(
        reference_clock_mhz=1980,
        overlap_norm=1.6,
        tokens=_TOKENS,
        memory_s=tuple(6e-3 for _ in _TOKENS),
        compute_s=tuple(27e-6 * tokens for tokens in _TOKENS),
        communication_s=tuple(0.0 for _ in _TOKENS),
        requests=(0, 1, 1024),
        attention_s=(0.0, 0.0, 0.0),
        attention_context_s=(49e-9, 49e-9, 49e-9),
        attention_compute_share=0.1,
        pair_s=0.9e-9,
        iteration_overhead_s=1.3e-3,
        request_overhead_s=30e-6,
    )
    work = WorkCoefficients(
        flops=tuple(16e9 * tokens for tokens in _TOKENS),
        bytes=tuple(16e9 for _ in _TOKENS),
        link_bytes=tuple(0.0 for _ in _TOKENS),
        context_bytes=131e3,
        context_flops=0.5e6,
        pair_flops=0.5e6,
    )
    architecture = Architecture("small", 8e9, 32, 4096, 14336, 32, 8, 128, 128256, 131072)
    power = PowerCoefficients(
        j_per_byte=6e-11,
        j_per_context_byte=6e-11,
        byte_core_share=0.2,
        j_per_flop=0.5e-12,
        j_per_link_byte=1e-10,
        j_per_logit=2e-8,
        active_static_w=40.0,
        active_clocked_w=60.0,
        clock_band=0.1,
    )
    profile = ModelProfile(
        name="small",
        architecture=architecture,
        precision="bf16",
        gpu=gpu_by_name("h100-sxm"),
        weight_bytes=16e9,
        power=power,
        shapes={1: ShapeCoefficients(step, work)},
        startup_s=60.0,
        provenance=("by hand",),
        residuals=(),
    )
    return profile.replica(1)
