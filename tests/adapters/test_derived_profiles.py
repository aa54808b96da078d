"""Deriving from the real tables, against what is measured and what is shipped."""

import datetime
from pathlib import Path

import numpy as np
import pytest

from dynawatt.adapters.calibration.ml_energy import read_ml_energy
from dynawatt.adapters.calibration.splitwise import read_splitwise
from dynawatt.adapters.derived_profiles import Deriver, all_subjects, subject
from dynawatt.adapters.profile_files import shipped_profiles
from dynawatt.adapters.recorded_profile import recorded_profile
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.derivation.overhead import MEASURED

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TODAY = datetime.date(2026, 1, 2)

needs_data = pytest.mark.skipif(not DATA.exists(), reason="needs the shared data")


@pytest.fixture(scope="module")
def deriver():
    pytest.importorskip("aiconfigurator_core")
    rows = read_ml_energy(DATA / "ml-energy" / "ml_energy_flat.csv") if DATA.exists() else []
    return Deriver(rows, TODAY)


def mean_error(profile, quantity):
    chosen = [each for each in profile.residuals if each.quantity == quantity and each.held_out]
    return sum(each.mean_abs_error * each.points for each in chosen) / sum(each.points for each in chosen)


@pytest.mark.parametrize("gpu", ["a100-sxm", "b200-sxm", "h100-sxm", "h200-sxm", "l40s"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.1-70b"])
def test_steps_are_within_five_percent_of_the_tables(deriver, model, gpu):
    profile = deriver.derive(subject(model, gpu, "bf16"))
    assert mean_error(profile, "decode_step") < 0.05
    assert mean_error(profile, "prefill_step") < 0.05


@needs_data
@pytest.mark.parametrize(("model", "gpu"), [("llama-3.1-8b", "h100-sxm"), ("llama-3.1-70b", "h100-sxm"),
                                            ("qwen3-32b", "h100-sxm"), ("llama-3.1-70b", "b200-sxm")])  # fmt: skip
def test_mean_steps_are_within_eight_percent_of_the_measured_engine(deriver, model, gpu):
    assert mean_error(deriver.derive(subject(model, gpu, "bf16")), "mean_step") < 0.08


@needs_data
@pytest.mark.parametrize("gpu", sorted(MEASURED))
def test_the_overheads_for_runs_without_data_are_those_of_the_data(deriver, gpu):
    fitted, kept = deriver.overheads[gpu], MEASURED[gpu]
    for size, requests in ((1, 8), (4, 64), (8, 256)):
        seconds = [each.iteration_overhead_s(size) + each.request_s * requests for each in (fitted, kept)]
        assert seconds[0] == pytest.approx(seconds[1], rel=0.02)
    assert fitted.prompt_tokens == pytest.approx(kept.prompt_tokens, rel=0.02)


@needs_data
@pytest.mark.parametrize("name", ["llama-3.1-8b-bf16-h100-sxm", "llama-3.1-70b-fp8-b200-sxm"])
def test_shipped_profiles_are_what_the_command_derives(deriver, name):
    (wanted,) = (each for each in all_subjects() if each.name == name)
    derived, shipped = deriver.derive(wanted), shipped_profiles()[name]
    assert derived.tensor_parallel_sizes == shipped.tensor_parallel_sizes
    for size in derived.tensor_parallel_sizes:
        for ours, theirs in ((derived.shapes[size].step, shipped.shapes[size].step),
                             (derived.shapes[size].work, shipped.shapes[size].work)):  # fmt: skip
            for field in type(ours).__dataclass_fields__:
                # Files keep seven digits.
                assert np.allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-5, atol=1e-12), field


@needs_data
def test_the_shipped_profile_of_2023_is_what_the_command_derives():
    derived = recorded_profile(read_splitwise(DATA / "splitwise-sim" / "perf_model.csv"), TODAY)
    shipped = shipped_profiles()["llama-2-70b-h100-2023"]
    assert derived.tensor_parallel_sizes == shipped.tensor_parallel_sizes == [2, 4, 8]
    for size in derived.tensor_parallel_sizes:
        assert derived.shapes[size].step.attention_s == pytest.approx(shipped.shapes[size].step.attention_s, rel=1e-5)
        assert derived.shapes[size].step.compute_s == pytest.approx(shipped.shapes[size].step.compute_s, rel=1e-5)


def test_provenance_says_where_everything_comes_from(deriver):
    text = " ".join(deriver.derive(subject("llama-3.1-8b", "a100-sxm", "bf16")).provenance)
    for part in ("aiconfigurator-core 0.12", "Apache-2.0", "vLLM 0.14.0", "derived 2026-01-02", "modelled there",
                 "taken for this GPU as well"):  # fmt: skip
        assert part in text


def test_a_precision_that_the_gpu_lacks_is_refused(deriver):
    with pytest.raises(InvalidInputError):
        deriver.derive(subject("llama-3.1-8b", "a100-sxm", "fp8"))


def test_unknown_models_are_refused_with_those_that_can_be_derived():
    with pytest.raises(InvalidInputError, match=r"--model 'gpt-5': must be one of llama-3.1-8b, "):
        subject("gpt-5", "h100-sxm", "bf16")


def test_shipped_profiles_stay_small():
    folder = Path(__file__).parents[2] / "operator" / "dynawatt" / "profiles"
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.yaml")}
    assert sizes
    assert max(sizes.values()) < 100_000
