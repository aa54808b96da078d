from pathlib import Path

import pytest

from dynawatt.adapters.calibration import validation
from dynawatt.adapters.calibration.validation import ValidationSet, recomputed_sets, stored_sets
from dynawatt.adapters.profile_files import shipped_profiles
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.architectures import ARCHITECTURES
from dynawatt.perfmodel.power import POWER

DATA = Path(__file__).parents[2].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the measurements are not beside the repository")
NAME = "llama-3.1-70b-bf16-h100-sxm"
DENSE = POWER["h100-sxm", "bf16"].residuals_of(ARCHITECTURES["llama-3.1-70b"])


def key(each):
    return each.name, each.residual.quantity, each.residual.held_out


@pytest.fixture(scope="module")
def recomputed():
    return recomputed_sets([shipped_profiles()[NAME]], DATA, lambda _: None)


def test_stored_sets_that_profiles_share_stand_once():
    profiles = [shipped_profiles()[name] for name in (NAME, "llama-3.1-8b-bf16-h100-sxm")]
    sets = stored_sets(profiles)
    shared = [each for each in sets if each.profile is None]
    assert {key(each) for each in shared} == {key(ValidationSet(None, each, recomputed=False)) for each in DENSE}
    assert len({key(each) for each in sets}) == len(sets)
    own = [each for each in sets if each.profile == NAME]
    assert own
    assert all(each.name.startswith(f"{NAME}: ") and not each.recomputed for each in own)


@needs_data
def test_recomputed_power_and_clock_shape_equal_the_stored_ones(recomputed):
    now = {key(each): each for each in recomputed if each.profile is None}
    assert all(each.recomputed for each in now.values())
    for each in DENSE:
        again = now[key(ValidationSet(None, each, recomputed=True))].residual
        assert again.points == each.points
        for figure in ("median_abs_error", "p90_abs_error", "mean_abs_error"):
            assert getattr(again, figure) == pytest.approx(getattr(each, figure), abs=1e-4)


@needs_data
@pytest.mark.parametrize(("model", "kind"), [("llama-3.1-8b", "dense"), ("mixtral-8x7b", "experts")])
def test_recomputed_power_is_of_models_of_the_same_kind(model, kind):
    profile = shipped_profiles()[f"{model}-bf16-b200-sxm"]
    shared = [each.name for each in recomputed_sets([profile], DATA, lambda _: None) if each.profile is None]
    assert {name for name in shared if name.startswith("ml-energy")} == {f"ml-energy-{kind} b200-sxm bf16"}


@needs_data
def test_the_whole_profile_meets_the_watts_of_the_engine(recomputed):
    [whole] = [each.residual for each in recomputed if "modelled step times" in each.name]
    assert whole.points >= 10
    assert whole.median_abs_error < 0.10


@needs_data
def test_mean_steps_are_computed_again(recomputed):
    steps = [each for each in recomputed if each.residual.quantity == "mean_step"]
    assert steps
    assert all(each.recomputed for each in steps)
    assert len({key(each) for each in recomputed}) == len(recomputed)


@needs_data
def test_what_is_not_there_stays_as_stored(tmp_path):
    (tmp_path / "splitwise-sim").symlink_to(DATA / "splitwise-sim")
    profile = shipped_profiles()["llama-3.1-70b-bf16-a100-sxm"]
    sets = recomputed_sets([profile], tmp_path, lambda _: None)
    power = [each for each in sets if each.residual.quantity == "power"]
    assert power
    assert all(each.recomputed for each in power)
    clock = [each for each in sets if each.residual.quantity == "clock_shape"]
    assert len(clock) == len([each for each in profile.residuals if each.quantity == "clock_shape"]) > 0
    assert not any(each.recomputed for each in clock)


@needs_data
def test_step_errors_stay_as_stored_without_the_tables(monkeypatch):
    profile = shipped_profiles()[NAME]
    monkeypatch.setattr(validation, "_TABLES", "no_such_package")
    steps = [
        each for each in recomputed_sets([profile], DATA, lambda _: None) if each.residual.quantity == "decode_step"
    ]
    stored = [each.residual for each in steps if not each.recomputed]
    assert stored == [each for each in profile.residuals if each.quantity == "decode_step"]
    others = {each.residual.dataset.split(",")[0] for each in steps if each.recomputed}
    assert others == {"splitwise-sim (2023 engine) h100-sxm"}


@needs_data
def test_another_engine_is_compared_at_every_recorded_degree(recomputed):
    recorded = [each for each in recomputed if "2023 engine" in each.name]
    assert [each.name.rpartition(", ")[2] for each in recorded] == ["TP 2", "TP 2", "TP 4", "TP 4", "TP 8", "TP 8"]
    assert {each.residual.quantity for each in recorded} == {"decode_step", "prefill_step"}
    assert all(each.residual.held_out and each.residual.points >= 100 for each in recorded)


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_have_the_power_of_their_gpu_and_precision(name):
    profile = shipped_profiles()[name]
    calibration = POWER[profile.gpu.name, profile.precision]
    assert profile.power == calibration.coefficients
    of_power = tuple(each for each in profile.residuals if each.quantity in ("power", "clock_shape"))
    # Nothing was measured of the power of the engine of 2023.
    assert of_power == (() if name == "llama-2-70b-h100-2023" else calibration.residuals_of(profile.architecture))


def test_a_folder_without_measurements(tmp_path):
    with pytest.raises(InvalidInputError, match=r"--data .*: holds no measurements: give a folder with ml-energy/"):
        recomputed_sets([shipped_profiles()[NAME]], tmp_path, lambda _: None)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "splitwise-sim" / "perf_model.csv"
    path.parent.mkdir()
    path.write_bytes(b"model,hardware\n\xff\xfe\n")
    with pytest.raises(InvalidInputError, match=r"--data .*give files that can be read"):
        recomputed_sets([shipped_profiles()[NAME]], tmp_path, lambda _: None)
