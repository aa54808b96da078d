import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.derivation.closed_loop import ClosedLoopRow
from dynawatt.perfmodel.derivation.overhead import EngineOverhead, mean_step_s
from dynawatt.perfmodel.derivation.profiles import Subject, apply_overhead, closed_loop_residual, derive_profile
from dynawatt.perfmodel.gpus import GPUS
from dynawatt.perfmodel.power import power_calibration

H100 = GPUS["h100-sxm"]
POWER = power_calibration("h100-sxm", "bf16")
LARGE = Subject(ARCHITECTURES["llama-3.1-70b"], "bf16", H100)


def derive(measured, subject=LARGE):
    return derive_profile(subject, measured, POWER, "synthetic", ("by a test",))


def test_degrees_at_which_the_weights_do_not_fit_have_no_shape(synthetic):
    profile = derive(lambda size: synthetic())
    assert profile.tensor_parallel_sizes == [2, 4, 8]  # 141 GB of weights
    assert profile.name == "llama-3.1-70b-bf16-h100-sxm"
    assert "by a test" in profile.provenance
    assert {residual.dataset for residual in profile.residuals} > {"synthetic, TP 2", "synthetic, TP 8"}


def test_degrees_without_measurements_are_left_out(synthetic):
    def measured(size):
        if size == 4:
            raise InvalidInputError("no table of all-reduces between 4 GPUs")
        return synthetic()

    assert derive(measured).tensor_parallel_sizes == [2, 8]


def test_nothing_measured_at_all_is_refused_with_the_reason():
    def measured(size):
        raise InvalidInputError("no table at all")

    with pytest.raises(InvalidInputError, match="no table at all"):
        derive(measured)


def test_weights_that_fit_nowhere_are_refused(synthetic):
    small_gpu = GPUS["l40s"]
    subject = Subject(ARCHITECTURES["gpt-oss-120b"], "bf16", small_gpu)
    with pytest.raises(InvalidInputError, match="fit"):
        derive_profile(
            Subject(subject.architecture, "bf16", _tiny(small_gpu)), lambda size: synthetic(), POWER, "set", ()
        )


def _tiny(gpu):
    from dataclasses import replace

    return replace(gpu, memory_bytes=8e9)


def row(size, step_s, requests=16.0):
    return ClosedLoopRow("meta-llama/Llama-3.1-70B", "h100-sxm", size, "bf16", "chat", 16, requests, 300, step_s, 500)


def test_overhead_adds_up_per_iteration_degree_and_request(synthetic):
    bare = derive(lambda size: synthetic())
    overhead = EngineOverhead(iteration_s=1e-3, parallel_s=0.5e-3, request_s=10e-6, prompt_tokens=200)
    full = apply_overhead(bare, overhead, "fitted")
    clock = H100.default_clock_mhz
    bare_s, full_s = (mean_step_s(profile.replica(4).at_clock(clock), row(4, 1.0), 200) for profile in (bare, full))
    assert full_s - bare_s == pytest.approx(1.5e-3 + 16 * 10e-6)
    assert full.provenance[-1] == "fitted"


def test_the_closed_loop_residual_is_over_rows_of_covered_degrees(synthetic):
    profile = derive(lambda size: synthetic())
    modelled_s = mean_step_s(profile.replica(4).at_clock(H100.default_clock_mhz), row(4, 1.0), 200)
    rows = [row(4, modelled_s / 1.1), row(4, modelled_s), row(1, 1.0)]
    (found,) = closed_loop_residual(profile, rows, 200, "loop", held_out=True)
    assert (found.points, found.held_out, found.quantity) == (2, True, "mean_step")
    assert found.mean_abs_error == pytest.approx(0.05)
    assert closed_loop_residual(profile, [row(1, 1.0)], 200, "loop", held_out=True) == ()
