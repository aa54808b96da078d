from collections.abc import Iterator
from pathlib import Path

import pytest

from dynawatt.sandbox.processes import end_all


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    end_all(tmp_path)
