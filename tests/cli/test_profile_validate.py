import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dynawatt.adapters.calibration.validation import ValidationSet
from dynawatt.adapters.profile_files import shipped_profiles
from dynawatt.cli import main
from dynawatt.cli.profile.validate import summary
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.profile import Residual

DATA = Path(__file__).parents[2].parent / "shared" / "data"
NAME = "llama-3.1-8b-bf16-h100-sxm"


def validate(*arguments):
    command = ["profile", "validate", *map(str, arguments)]
    result = CliRunner().invoke(main.build_app(["profile"]), command, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def one(quantity, points, mean, median, *, held_out=True, dataset="set"):
    return ValidationSet("p", Residual(dataset, quantity, points, median, median * 2, mean, held_out), recomputed=False)


def test_json_has_the_errors_of_every_set():
    content = json.loads(validate("--json", "-"))
    assert list(content) == ["step_time_mean_abs_error", "power_median_abs_error", "sets"]
    quantities = {each["quantity"] for each in content["sets"]}
    assert quantities >= {"decode_step", "prefill_step", "power", "clock_shape"}
    for each in content["sets"]:
        assert {"name", "points", "mean_abs_error", "median_abs_error", "p90_abs_error", "held_out"} <= set(each)
        assert each["recomputed"] is False
    names = [(each["name"], each["quantity"], each["held_out"]) for each in content["sets"]]
    assert len(set(names)) == len(names)


def test_the_shipped_profiles_are_within_their_targets():
    content = json.loads(validate("--json", "-"))
    assert content["step_time_mean_abs_error"] <= 0.05
    assert content["power_median_abs_error"] <= 0.10


def test_headlines_count_points_and_only_what_was_held_out():
    sets = [
        one("decode_step", 30, 0.02, 0.01),
        one("prefill_step", 10, 0.06, 0.03),
        one("prefill_step", 1000, 0.9, 0.9, held_out=False),
        one("mean_step", 1000, 0.9, 0.9),
        one("power", 10, 0.3, 0.02, dataset="ml-energy-dense h100-sxm bf16"),
        one("power", 30, 0.3, 0.06, dataset="ml-energy-dense b200-sxm bf16"),
        one("power", 500, 0.3, 0.5, dataset="ml-energy-experts b200-sxm bf16"),
    ]
    content = summary(sets)
    assert content["step_time_mean_abs_error"] == pytest.approx(0.03)
    assert content["power_median_abs_error"] == pytest.approx(0.05)
    assert summary(sets[-1:])["power_median_abs_error"] == pytest.approx(0.5)
    assert summary(sets[2:3]) | {"sets": []} == {
        "step_time_mean_abs_error": None, "power_median_abs_error": None, "sets": [],
    }  # fmt: skip


def test_table_of_one_profile():
    lines = validate("--profile", NAME).splitlines()
    own = [line for line in lines if line.startswith(NAME)]
    assert own
    assert not [line for line in lines if "llama-3.1-70b" in line]
    assert all(line.split()[-1] == "stored" for line in own)
    text = " ".join(" ".join(lines).split())
    assert "The clock axis is model-derived, not measured on this GPU" in text
    assert f"± {shipped_profiles()[NAME].power.clock_band * 100:.1f} %" in text


def test_degrees_share_a_line():
    lines = [line for line in validate("--profile", NAME).splitlines() if " decode_step " in line]
    assert len(lines) == 1
    points = sum(each.points for each in shipped_profiles()[NAME].residuals if each.quantity == "decode_step")
    assert str(points) in lines[0].split()


@pytest.mark.skipif(not DATA.is_dir(), reason="the measurements are not beside the repository")
def test_data_are_computed_again(tmp_path):
    file = tmp_path / "validation.json"
    validate("--profile", NAME, "--data", DATA, "--json", file)
    sets = json.loads(file.read_text())["sets"]
    assert {each["recomputed"] for each in sets if each["quantity"] in ("power", "clock_shape")} == {True}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--profile", "llama-3.1-8b-h100"], r"--profile 'llama-3.1-8b-h100' does not exist: nearest llama-3.1-8b-"),
        (["--data", "/nowhere"], r"--data /nowhere: is not a directory"),
        (["--json", "/nowhere/x.json"], r"--json /nowhere/x.json: "),
    ],
)
def test_bad_input(arguments, problem):
    with pytest.raises(InvalidInputError, match=problem):
        validate(*arguments)
