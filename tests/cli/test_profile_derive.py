import importlib.metadata
import json

import pytest
from typer.testing import CliRunner

from dynawatt.adapters.profile_files import read_profile
from dynawatt.cli import main
from dynawatt.errors import InvalidInputError, OperationError

HEADER = "model,hardware,prompt_size,batch_size,token_size,prompt_time,token_time,tensor_parallel\n"


def derive(*arguments):
    words = ["profile", "derive", *map(str, arguments)]
    result = CliRunner().invoke(main.build_app(words), words, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


@pytest.fixture
def recorded(tmp_path):
    rows = [(prompt, 1) for prompt in (128, 256, 512, 1024, 2048, 4096, 8192)]
    rows += [(512, requests) for requests in (2, 4, 8, 16, 32)]
    path = tmp_path / "perf_model.csv"
    path.write_text(
        HEADER
        + "".join(
            f"llama2-70b,h100-80gb,{prompt},{requests},128,{40 + 0.09 * prompt * requests},{29 + 0.2 * requests},4\n"
            for prompt, requests in rows
        )
    )
    return path


def test_derives_the_recorded_profile_without_the_package(tmp_path, recorded, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    result = derive("--splitwise", recorded, "--output", tmp_path / "new", "--json", "-")
    (summary,) = json.loads(result.stdout)["profiles"]
    assert summary["name"] == "llama-2-70b-h100-2023"
    assert summary["tensor_parallel_sizes"] == [4]
    assert summary["decode_step"] < 0.01
    assert "[1/1] llama-2-70b-h100-2023: TP 4" in result.stderr
    profile = read_profile(tmp_path / "new" / "llama-2-70b-h100-2023.yaml")
    assert profile.replica(4).max_decode_requests == 32


def test_a_missing_package_says_how_to_install_it(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(OperationError, match=r"pip install 'dynawatt\[profiles\]'"):
        derive("--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--output", tmp_path)


def test_help_names_the_extra_with_its_brackets():
    assert "dynawatt[profiles]" in derive("--help").stdout


def test_derives_one_profile(tmp_path):
    pytest.importorskip("aiconfigurator_core")
    result = derive(
        "--model", "llama-3.1-8b", "--gpu", "h100-sxm", "--output", tmp_path, "--json", tmp_path / "out.json"
    )
    (summary,) = json.loads((tmp_path / "out.json").read_text())["profiles"]
    assert summary["tensor_parallel_sizes"] == [1, 2, 4, 8]
    assert summary["mean_step"] is None  # no measurements of the whole engine were given
    assert summary["bytes"] == (tmp_path / "llama-3.1-8b-bf16-h100-sxm.yaml").stat().st_size
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "h100-sxm"], "--model and --gpu must be given, or --all, or --splitwise"),
        (["--all", "--gpu", "h100-sxm"], "--all: must stand alone"),
        (["--model", "gpt-5", "--gpu", "h100-sxm"], "must be one of llama-3.1-8b"),
        (["--model", "llama-3.1-8b", "--gpu", "h1000"], "GPU 'h1000' is not known"),
    ],
)
def test_bad_options_are_refused(tmp_path, arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        derive(*arguments, "--output", tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, recorded):
    with pytest.raises(InvalidInputError, match="give a folder that can be written"):
        derive("--splitwise", recorded, "--output", recorded / "under-a-file")
