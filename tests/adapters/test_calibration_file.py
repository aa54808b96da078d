import logging

import pytest

from dynawatt.adapters.calibration_file import CalibrationFile


def test_what_is_saved_is_found_again(tmp_path):
    file = CalibrationFile(tmp_path / "surfaces" / "calibration.json")
    assert file.load() == {}
    file.save({"a": [1.0]})
    file.save({"a": [2.0]})
    assert CalibrationFile(tmp_path / "surfaces" / "calibration.json").load() == {"a": [2.0]}
    assert [path.name for path in (tmp_path / "surfaces").iterdir()] == ["calibration.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_cannot_be_read_is_as_none(tmp_path, caplog, content):
    path = tmp_path / "calibration.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert CalibrationFile(path).load() == {}
    assert "learning starts anew" in caplog.text


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "calibration.json"
    CalibrationFile(path).save({"a": 1})
    with pytest.raises(TypeError):
        CalibrationFile(path).save({"a": object()})
    assert CalibrationFile(path).load() == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["calibration.json"]


def test_a_directory_that_is_a_file(tmp_path):
    (tmp_path / "surfaces").write_text("")
    with pytest.raises(OSError, match="surfaces"):
        CalibrationFile(tmp_path / "surfaces" / "calibration.json").save({})
