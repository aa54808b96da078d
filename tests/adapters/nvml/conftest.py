"""The real pynvml on the simulated driver: its library is loaded first, so that pynvml finds it by its soname."""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dynawatt.adapters.nvml.node import NvmlNode, open_gpus
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import GpuTimeoutError
from dynawatt.sandbox.driver.build import LIBRARY_NAME, ensure_driver
from dynawatt.sandbox.driver.control import SimulatedDriver
from dynawatt.sandbox.driver.layout import STATE_VARIABLE
from dynawatt.sandbox.driver.models import GpuModel


@pytest.fixture(scope="session")
def library() -> Path:
    directory = ensure_driver()
    ctypes.CDLL(str(directory / LIBRARY_NAME), mode=ctypes.RTLD_GLOBAL)
    return directory


@pytest.fixture
def driver(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedDriver]:
    state = tmp_path / "gpus"
    driver = SimulatedDriver.create(state, [GpuModel.of(H100_SXM, f"GPU-{index}") for index in range(2)])
    monkeypatch.setenv(STATE_VARIABLE, str(state))
    yield driver
    driver.restore()
    driver.close()


@pytest.fixture
def node(driver: SimulatedDriver) -> Iterator[NvmlNode]:
    node = open_gpus()
    yield node
    driver.restore()
    for uuid in driver.uuids:
        driver.set_lost(uuid, False)
    for gpu in node.gpus:
        _until_it_returns(gpu.read)
    node.close()
    assert driver.calls("nvmlShutdown") == driver.calls("nvmlInit")


def _until_it_returns(call: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + 30
    while True:
        try:
            call()
        except GpuTimeoutError:
            assert time.monotonic() < deadline_s, "it goes on hanging"
            time.sleep(0.005)
        else:
            return


@pytest.fixture
def until_it_returns() -> Callable[[Callable[[], object]], None]:
    """Calls again and again for as long as the driver hangs."""
    return _until_it_returns


@pytest.fixture(scope="session")
def in_fresh_process() -> Callable[..., Any]:
    """Runs lines of Python that end by assigning ``answer``, in an interpreter that finds its libraries anew."""

    def run(code: str, environment: Mapping[str, str]) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", f"import json\n{code}\nprint(json.dumps(answer))"],
            env=os.environ | environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
