import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from dynawatt.adapters.profile_files import shipped_profiles
from dynawatt.cli import main
from dynawatt.cli.profile.list import Error, error_of
from dynawatt.cli.profile.summary import example_clocks_mhz
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.models import Batch
from dynawatt.perfmodel.power import power_calibration
from dynawatt.perfmodel.profile import Residual

NAME = "llama-3.1-70b-bf16-h100-sxm"


def profile(*arguments):
    result = CliRunner().invoke(main.build_app(["profile"]), ["profile", *map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def test_list_has_a_line_for_each_profile():
    lines = profile("list").splitlines()
    for name, each in shipped_profiles().items():
        [line] = [line for line in lines if line.startswith(f"{name} ")]
        assert line.split()[1:4] == [each.architecture.name, each.precision, each.gpu.name]
        assert f" {' '.join(map(str, each.tensor_parallel_sizes))} " in line
    assert "clock axis is model-derived" in profile("list")


def test_list_as_json():
    listed = json.loads(profile("list", "--json", "-"))
    assert [row["name"] for row in listed["profiles"]] == [*shipped_profiles()]
    assert listed["clock_axis"] == "model-derived"
    [row] = [row for row in listed["profiles"] if row["name"] == NAME]
    assert row["clock_band"] == shipped_profiles()[NAME].power.clock_band
    assert row["tensor_parallel_sizes"] == shipped_profiles()[NAME].tensor_parallel_sizes


def test_list_marks_errors_that_are_in_the_fit():
    lines = profile("list").splitlines()
    marked = {line.split()[0] for line in lines if " %*" in line}
    rows = json.loads(profile("list", "--json", "-"))["profiles"]
    of_power = {row["name"] for row in rows if row["power_held_out"] is False}
    # One dense model was measured in fp8, and the fit needed all its points.
    assert of_power == {name for name in shipped_profiles() if "fp8-h100" in name or "fp8-b200" in name}
    assert marked == of_power | {"llama-2-70b-h100-2023"}
    assert "* In the fit" in lines[-2]


def test_list_of_profiles_without_such_errors_has_no_footnote(tmp_path):
    config = tmp_path / "config.json"
    values = {
        "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80,
        "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16",
    }  # fmt: skip
    config.write_text(json.dumps(values))
    text = profile("list", "--config", config)
    assert NAME in text
    assert "*" not in text


def test_the_power_error_is_that_of_models_of_the_same_kind():
    rows = {row["name"]: row for row in json.loads(profile("list", "--json", "-"))["profiles"]}
    medians = {
        residual.dataset: residual.median_abs_error
        for residual in power_calibration("b200-sxm", "bf16").residuals
        if residual.held_out
    }
    for model, kind in (("mixtral-8x7b", "experts"), ("llama-3.1-8b", "dense")):
        error = rows[f"{model}-bf16-b200-sxm"]["power_median_abs_error"]
        assert error == pytest.approx(medians[f"ml-energy-{kind} b200-sxm bf16"])
    # On A100 no model with experts was measured.
    assert rows["mixtral-8x7b-bf16-a100-sxm"]["power_median_abs_error"] is None


def test_list_for_a_finetune(tmp_path):
    config = tmp_path / "config.json"
    values = {
        "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64, "num_hidden_layers": 80,
        "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16",
    }  # fmt: skip
    config.write_text(json.dumps(values))
    rows = json.loads(profile("list", "--config", config, "--json", "-"))["profiles"]
    assert NAME in [row["name"] for row in rows]
    assert {(row["model"], row["precision"]) for row in rows} == {("llama-3.1-70b", "bf16")}
    config.write_text(json.dumps(values | {"dtype": "float16", "vocab_size": 32000}))
    rows = json.loads(profile("list", "--config", config, "--json", "-"))["profiles"]
    assert {row["model"] for row in rows} <= {"llama-2-70b"}


def residual(quantity, points, error, *, held_out):
    return Residual("set", quantity, points, error / 2, error * 2, error, held_out)


def test_the_error_is_of_points_that_had_no_part_in_the_fit():
    from dataclasses import replace

    each = replace(
        shipped_profiles()[NAME],
        residuals=(
            residual("decode_step", 100, 0.01, held_out=False),
            residual("decode_step", 30, 0.04, held_out=True),
            residual("prefill_step", 10, 0.08, held_out=True),
            residual("power", 7, 0.10, held_out=False),
        ),
    )
    assert error_of(each, ("decode_step", "prefill_step"), "mean_abs_error") == Error(
        pytest.approx(0.05), held_out=True
    )
    assert error_of(each, ("power",), "median_abs_error") == Error(pytest.approx(0.05), held_out=False)
    assert error_of(each, ("clock_shape",), "median_abs_error") is None


def test_show_tells_seconds_and_watts():
    text = profile("show", NAME)
    replica = shipped_profiles()[NAME].replica(8)
    clock_mhz = example_clocks_mhz(replica.model)[2]
    batch = Batch(32, 32 * 1024, 0, 0.0)
    expected = f"{replica.step_s(batch, clock_mhz) * 1000:.1f} ms  {replica.power_w(batch, clock_mhz):4.0f} W"
    section = text.split("Tensor parallelism 8 ")[1]
    [line] = [line for line in section.splitlines() if line.startswith("decode 32 x 1024 tokens")]
    assert expected in line
    assert f"KV cache of {replica.kv_capacity_tokens:,} tokens" in section
    assert "clock axis is model-derived" in text
    for source in replica.model.provenance:
        assert source in text


def test_show_tells_what_a_generated_token_takes():
    each = shipped_profiles()[NAME]
    token_j = each.power.j_per_logit * each.architecture.vocabulary
    assert f"{token_j * 1000:.1f} mJ for each generated token" in profile("show", NAME)


def test_no_profile_command_waits_for_scipy_to_load():
    code = "import sys; from dynawatt.cli import main; main.build_app(['profile']); print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "False\n"


def test_show_as_json_says_the_same(tmp_path):
    file = tmp_path / "profile.json"
    assert profile("show", NAME, "--json", file) == ""
    shown = json.loads(file.read_text())
    shapes = {shape["tensor_parallel"]: shape for shape in shown["shapes"]}
    each = shipped_profiles()[NAME]
    assert [*shapes] == each.tensor_parallel_sizes
    assert (shown["clock_axis"], shown["clock_band"]) == ("model-derived", each.power.clock_band)
    example = next(each for each in shapes[8]["iterations"] if each["decode_requests"] == 256)
    batch = Batch(256, 256 * 1024, 0, 0.0)
    assert example["step_s"] == pytest.approx(each.replica(8).step_s(batch, example["clock_mhz"]))


@pytest.mark.parametrize("name", [*shipped_profiles()])
def test_every_profile_can_be_shown(name):
    assert profile("show", name).count("Tensor parallelism ") == len(shipped_profiles()[name].shapes)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["show", "llama-3.1-70b-h100"], f"profile 'llama-3.1-70b-h100' does not exist: nearest .*{NAME}"),
        (["show", NAME, "--json", "/nowhere/x.json"], "--json /nowhere/x.json: No such file"),
        (["list", "--config", "/nowhere/config.json"], "/nowhere/config.json: No such file"),
    ],
)
def test_what_cannot_be_shown(arguments, problem):
    with pytest.raises(InvalidInputError, match=problem):
        profile(*arguments)


def test_a_full_disk_behind_standard_output_is_an_error_in_one_line():
    command = [sys.executable, "-c", "from dynawatt.cli.main import main; main()", "profile", "list", "--json", "-"]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "dynawatt: [Errno 28] No space left on device\n"
