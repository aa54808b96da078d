from dataclasses import replace

import pytest
from hypothesis import given

from dynawatt.adapters.profile_files import ProfileDirectory, read_profile, write_profile
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.gpus import H100_SXM

from .model_profiles import PLAIN, PROFILES


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("profiles")


def significant(value):
    """Rounded as in a file."""
    if isinstance(value, float):
        return float(f"{value:.6e}")
    if isinstance(value, tuple):
        return tuple(significant(each) for each in value)
    if isinstance(value, dict):
        return {key: significant(each) for key, each in value.items()}
    if hasattr(value, "__dataclass_fields__") and value is not H100_SXM:
        return type(value)(**{name: significant(getattr(value, name)) for name in value.__dataclass_fields__})
    return value


@given(PROFILES)
def test_what_is_written_is_read_again(directory, profile):
    path = directory / "profile.yaml"
    write_profile(path, profile)
    found = read_profile(path)
    assert found == significant(profile)
    text = path.read_text()
    write_profile(path, found)
    assert path.read_text() == text


def test_numbers_as_go_writes_them(tmp_path):
    path = tmp_path / "profile.yaml"
    write_profile(path, PLAIN)
    path.write_text(path.read_text().replace("1.0e-05", "1e-05"))
    assert read_profile(path) == PLAIN


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"spec: [", "is not YAML"),
        (b"\xff\xfe\xff", "is not YAML"),
        (b"", "must be"),
        (b"- 1", "must be"),
        (None, "No such file"),
    ],
)
def test_files_that_are_no_profile(tmp_path, content, problem):
    path = tmp_path / "profile.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=problem) as caught:
        read_profile(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"weight_bytes": float("nan")}, "weight_bytes: nan: must be a finite number"),
        ({"startup_s": -1.0}, "start_up_seconds: -1.0: must be greater than 0"),
        ({"precision": "int4"}, "precision"),
        ({"provenance": ()}, "provenance"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, change, problem):
    with pytest.raises(InvalidInputError, match=f"profile plain: {problem}"):
        write_profile(tmp_path / "profile.yaml", replace(PLAIN, **change))
    assert not (tmp_path / "profile.yaml").exists()


def test_only_the_wanted_file_is_read(tmp_path):
    write_profile(tmp_path / "plain.yaml", PLAIN)
    (tmp_path / "broken.yaml").write_text("spec: [")
    profiles = ProfileDirectory(tmp_path)
    assert list(profiles) == ["broken", "plain"]
    assert profiles["plain"] == PLAIN
    (tmp_path / "plain.yaml").unlink()
    assert profiles["plain"] == PLAIN
    with pytest.raises(InvalidInputError, match=r"broken\.yaml: is not YAML"):
        profiles["broken"]
    with pytest.raises(KeyError):
        profiles["../plain"]


def test_a_file_is_named_as_its_profile(tmp_path):
    write_profile(tmp_path / "other.yaml", PLAIN)
    with pytest.raises(InvalidInputError, match=r"metadata\.name: 'plain': must be 'other'"):
        ProfileDirectory(tmp_path)["other"]
