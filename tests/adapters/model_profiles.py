"""Profiles to write to files: any, and a plain one."""

from hypothesis import strategies as st

from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.perfmodel.profile import (
    ModelProfile,
    PowerCoefficients,
    Residual,
    ShapeCoefficients,
    StepCoefficients,
    WorkCoefficients,
)

TOKENS = (1, 64, 4096)
REQUESTS = (0, 1, 256)


def values(low, high, count=3):
    return st.tuples(*[st.floats(low, high) for _ in range(count)])


STEPS = st.builds(
    StepCoefficients,
    reference_clock_mhz=st.sampled_from([1980, 1005]),
    overlap_norm=st.floats(1, 100),
    tokens=st.just(TOKENS),
    memory_s=values(1e-6, 10),
    compute_s=values(0, 10),
    communication_s=values(0, 1),
    requests=st.just(REQUESTS),
    attention_s=values(0, 1),
    attention_context_s=values(0, 1e-6),
    attention_compute_share=st.floats(0, 1),
    pair_s=st.floats(0, 1e-6),
    iteration_overhead_s=st.floats(0, 1),
    request_overhead_s=st.floats(0, 1e-3),
)
WORK = st.builds(
    WorkCoefficients,
    flops=values(0, 1e18),
    bytes=values(0, 1e15),
    link_bytes=values(0, 1e12),
    context_bytes=st.floats(0, 1e7),
    context_flops=st.floats(0, 1e9),
    pair_flops=st.floats(0, 1e9),
)
# Control characters are no words, and PyYAML does not read back the line breaks of Unicode that it writes.
LINE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
PROFILES = st.builds(
    ModelProfile,
    name=st.just("some-model"),
    architecture=st.sampled_from([*ARCHITECTURES.values()]),
    precision=st.sampled_from(["bf16", "fp8", "mxfp4"]),
    gpu=st.just(H100_SXM),
    weight_bytes=st.floats(1, 1e13),
    power=st.builds(
        PowerCoefficients,
        j_per_byte=st.floats(0, 1e-9),
        j_per_context_byte=st.floats(0, 1e-9),
        byte_core_share=st.floats(0, 1),
        j_per_flop=st.floats(0, 1e-11),
        j_per_link_byte=st.floats(0, 1e-9),
        j_per_logit=st.floats(0, 1e-6),
        active_static_w=st.floats(0, 500),
        active_clocked_w=st.floats(0, 500),
        clock_band=st.floats(0, 1),
    ),
    shapes=st.dictionaries(
        st.sampled_from([1, 2, 4, 8]), st.builds(ShapeCoefficients, step=STEPS, work=WORK), min_size=1
    ),
    startup_s=st.floats(1, 1000),
    provenance=st.lists(st.text("abc: -#", min_size=1), min_size=1, max_size=3).map(tuple),
    residuals=st.lists(
        st.builds(
            Residual,
            dataset=LINE,
            quantity=st.sampled_from(["decode_step", "power"]),
            points=st.integers(1, 1000),
            median_abs_error=st.floats(0, 10),
            p90_abs_error=st.floats(0, 10),
            mean_abs_error=st.floats(0, 10),
            held_out=st.booleans(),
        ),
        max_size=2,
    ).map(tuple),
)
PLAIN = ModelProfile(
    name="plain",
    architecture=ARCHITECTURES["llama-3.1-8b"],
    precision="bf16",
    gpu=H100_SXM,
    weight_bytes=16e9,
    power=PowerCoefficients(1e-10, 2e-10, 0.5, 1e-12, 1e-10, 4e-8, 60.0, 40.0, 0.3),
    shapes={
        1: ShapeCoefficients(
            StepCoefficients(
                1980, 1.6, TOKENS, (5e-3,) * 3, (1e-5, 1e-3, 0.1), (0.0,) * 3, REQUESTS, (0.0, 1e-4, 1e-3),
                (0.0, 1e-8, 1e-8), 0.1, 1e-10, 1e-3, 1e-5,
            ),
            WorkCoefficients((1e10, 1e12, 1e14), (16e9,) * 3, (0.0,) * 3, 131072.0, 5e5, 5e5),
        )
    },
    startup_s=120.0,
    provenance=("made for a test",),
    residuals=(),
)  # fmt: skip
