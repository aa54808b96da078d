from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dynawatt.api.crd import crd_documents
from dynawatt.cli import main
from dynawatt.errors import InvalidInputError, OperationError

REPOSITORY = Path(__file__).parents[2]


def crds(*arguments):
    result = CliRunner().invoke(main.build_app(["crds"]), ["crds", *map(str, arguments)], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.output


def test_committed_files_are_current():
    assert crds("--check", REPOSITORY / "crds") == ""


def test_prints_what_can_be_applied():
    assert list(yaml.safe_load_all(crds())) == crd_documents()


def test_written_directory_passes_the_check(tmp_path):
    directory = tmp_path / "new" / "crds"
    assert crds("--write", directory).splitlines() == [
        f"wrote {directory / 'llmservices.yaml'}",
        f"wrote {directory / 'gpunodes.yaml'}",
    ]
    assert crds("--check", directory) == ""


def test_check_looks_in_crds_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    crds("--write")
    assert crds("--check") == ""
    assert (tmp_path / "crds" / "gpunodes.yaml").exists()


def drift_edit(directory):
    path = directory / "llmservices.yaml"
    path.write_text(path.read_text().replace("maximum: 99", "maximum: 100"))


def drift_delete(directory):
    (directory / "llmservices.yaml").unlink()


@pytest.mark.parametrize(("drift", "word"), [(drift_edit, "differs"), (drift_delete, "is missing")])
def test_drift_names_file_and_command(tmp_path, drift, word):
    crds("--write", tmp_path)
    drift(tmp_path)
    with pytest.raises(OperationError) as failure:
        crds("--check", tmp_path)
    message = str(failure.value)
    assert message.startswith(f"{tmp_path / 'llmservices.yaml'} {word}")
    assert message.endswith(f"run: dynawatt crds --write {tmp_path}")
    assert "gpunodes" not in message


def test_stray_file_is_drift(tmp_path):
    crds("--write", tmp_path)
    (tmp_path / "old.yaml").write_text("{}")
    with pytest.raises(OperationError, match=r"old\.yaml belongs to no custom resource; run: rm "):
        crds("--check", tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--write", "--check"], "exclude each other"),
        (["somewhere"], "DIRECTORY somewhere is not used when printing"),
        (["--check", "absent"], "absent: is not a directory"),
        (["--write", "/dev/null/crds"], "/dev/null/crds: Not a directory"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        crds(*arguments)
