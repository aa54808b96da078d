"""What the shipped coefficients say, against figures published about the same GPUs."""

from dataclasses import replace

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.gpus import GPUS, gpu_by_name
from dynawatt.perfmodel.models import Batch
from dynawatt.perfmodel.power import POWER, power_calibration
from dynawatt.perfmodel.power_fit import PowerPoints, predicted_w
from dynawatt.perfmodel.profile import (
    ModelProfile,
    ShapeCoefficients,
    StepCoefficients,
    WorkCoefficients,
)

STEP_S = 0.02
ONE_REQUEST = Batch(1, 0, 0, 0.0)


def draw_w(gpu, *, bytes_per_s, flops_per_s=0.0, precision="bf16"):
    points = PowerPoints(*(np.array([each]) for each in (0.0, bytes_per_s, 0.0, flops_per_s, 0.0, 0.0)))
    return predicted_w(points, POWER[gpu, precision].coefficients, gpu_by_name(gpu))[0]


def memory_bound_w(gpu, bytes_per_s, clock_mhz, batch=ONE_REQUEST):
    """Power of steps of 20 ms that no clock changes."""
    step = StepCoefficients(
        reference_clock_mhz=gpu.default_clock_mhz, overlap_norm=2.0, tokens=(1, 64), memory_s=(STEP_S, STEP_S),
        compute_s=(0.0, 0.0), communication_s=(0.0, 0.0), requests=(0, 64), attention_s=(0.0, 0.0),
        attention_context_s=(0.0, 0.0), attention_compute_share=0.0, pair_s=0.0, iteration_overhead_s=0.0,
        request_overhead_s=0.0,
    )  # fmt: skip
    work = WorkCoefficients((0.0, 0.0), (bytes_per_s * STEP_S,) * 2, (0.0, 0.0), 0.0, 0.0, 0.0)
    profile = ModelProfile(
        "p", ARCHITECTURES["llama-3.1-8b"], "bf16", gpu, 16e9, power_calibration(gpu.name, "bf16").coefficients,
        {1: ShapeCoefficients(step, work)}, 60.0, ("test",), (),
    )  # fmt: skip
    return profile.replica(1).power_w(batch, clock_mhz)


@pytest.mark.parametrize("gpu", GPUS)
def test_every_gpu_has_power_in_bf16_with_provenance(gpu):
    calibration = power_calibration(gpu, "bf16")
    assert len(calibration.provenance) >= 2
    assert any("clock axis derived from a model" in each for each in calibration.provenance)
    assert {residual.quantity for residual in calibration.residuals} <= {"power", "clock_shape"}
    assert 0 < calibration.coefficients.clock_band < 1


def test_what_is_not_measured_says_so():
    assert not [each for each in power_calibration("l40s", "bf16").residuals if each.quantity == "power"]
    assert any("not measured on L40S" in each for each in power_calibration("l40s", "bf16").provenance)
    assert any("not measured on H200" in each for each in power_calibration("h200-sxm", "fp8").provenance)
    bands = {gpu: power_calibration(gpu, "bf16").coefficients.clock_band for gpu in GPUS}
    assert bands["h100-sxm"] < bands["a100-sxm"] <= bands["l40s"]


def test_unknown_precision():
    with pytest.raises(InvalidInputError, match="precision fp8 on a100-sxm: power is known for bf16"):
        power_calibration("a100-sxm", "fp8")


@pytest.mark.parametrize(
    ("measured_w", "work"),
    [
        (983.7, {"bytes_per_s": 0.9e12, "flops_per_s": 710e12}),
        (985.5, {"bytes_per_s": 5.46e12, "flops_per_s": 20.8e12}),
    ],
    ids=["bound by arithmetic", "bound by memory"],
)
def test_b200_kernels(measured_w, work):
    # Medians of balanced bf16 experts in the tables of aiconfigurator-core 0.12 (vLLM 0.22), which no fit saw.
    assert draw_w("b200-sxm", **work) == pytest.approx(measured_w, rel=0.05)


@pytest.mark.parametrize(("bytes_per_s", "decode_w"), [(0.1e12, 200), (0.9e12, 300)])
def test_h200_saves_in_decode_what_was_measured(bytes_per_s, decode_w):
    """1980 to 780 MHz saved 47 to 90 W in decode of 137 to 300 W (arXiv 2605.11999)."""
    gpu = GPUS["h200-sxm"]
    default_w, low_w = (memory_bound_w(gpu, bytes_per_s, clock) for clock in (1980, 780))
    assert default_w == pytest.approx(decode_w, rel=0.03)
    assert 47 <= default_w - low_w <= 90


def test_h100_at_1_6_ghz_takes_about_four_fifths():
    """Below 80 % of the energy at about the same throughput, for most batch sizes (arXiv 2403.20306)."""
    gpu = GPUS["h100-sxm"]
    shares = [memory_bound_w(gpu, rate, 1605) / memory_bound_w(gpu, rate, 1980) for rate in (1e12, 2e12, 3e12)]
    assert all(0.7 < share < 0.85 for share in shares)


@pytest.mark.parametrize("gpu", GPUS.values(), ids=lambda gpu: gpu.name)
def test_power_rises_with_the_clock(gpu):
    drawn = [memory_bound_w(gpu, gpu.memory_bytes_per_s / 2, clock) for clock in gpu.supported_clocks_mhz]
    assert drawn == sorted(drawn)
    assert drawn[0] > gpu.loaded_idle_w(gpu.min_clock_mhz)
    assert drawn[-1] < gpu.tdp_w


def test_a_byte_costs_no_less_than_the_memory_takes_at_any_clock():
    gpu = GPUS["h100-sxm"]
    coefficients = power_calibration("h100-sxm", "bf16").coefficients
    without = replace(coefficients, j_per_byte=0.0)
    low = gpu.min_clock_mhz
    moved_w = memory_bound_w(gpu, 1e12, low) - memory_bound_w(gpu, 0.0, low)
    assert moved_w > 1e12 * coefficients.j_per_byte * (1 - coefficients.byte_core_share)
    assert moved_w < 1e12 * coefficients.j_per_byte
    assert without.j_per_context_byte == coefficients.j_per_context_byte


def test_a_decoding_request_takes_its_logits_on_every_gpu():
    gpu = GPUS["h100-sxm"]
    coefficients = power_calibration("h100-sxm", "bf16").coefficients
    vocabulary = ARCHITECTURES["llama-3.1-8b"].vocabulary
    for clock_mhz, share in ((gpu.default_clock_mhz, 1.0), (gpu.min_clock_mhz, 0.5 + 0.5 * 0.78**2)):
        decoding_w, prefilling_w = (
            memory_bound_w(gpu, 1e12, clock_mhz, batch) for batch in (Batch(64, 0, 0, 0.0), Batch(0, 0, 64, 0.0))
        )
        sampled_j = 64 * vocabulary * coefficients.j_per_logit * share
        assert (decoding_w - prefilling_w) * STEP_S == pytest.approx(sampled_j, rel=1e-6)


def test_errors_are_of_models_of_the_same_kind():
    calibration = power_calibration("b200-sxm", "bf16")
    for name, kind in (("llama-3.1-8b", "ml-energy-dense"), ("mixtral-8x7b", "ml-energy-experts")):
        own = calibration.residuals_of(ARCHITECTURES[name])
        assert {each.dataset.split()[0] for each in own if each.quantity == "power"} == {kind}
        of_clock = [each for each in calibration.residuals if each.quantity == "clock_shape"]
        assert [each for each in own if each.quantity == "clock_shape"] == of_clock
    assert len(calibration.residuals_of(ARCHITECTURES["mixtral-8x7b"])) < len(calibration.residuals)
