import os
import threading
from pathlib import Path

import pynvml
import pytest

from dynawatt.adapters.nvml.handle import text
from dynawatt.adapters.nvml.node import open_gpus
from dynawatt.errors import OperationError
from dynawatt.ports import ClockMethod, EnergySource, GpuError
from dynawatt.sandbox.driver.build import LIBRARY_NAME
from dynawatt.sandbox.driver.control import Result, SimulatedDriver
from dynawatt.sandbox.driver.layout import STATE_VARIABLE

FAILS_TO_OPEN = """
from dynawatt.adapters.nvml.node import open_gpus
from dynawatt.errors import OperationError
try:
    open_gpus()
except OperationError as error:
    answer = str(error)
"""


def test_all_gpus_are_found_by_uuid(node, driver):
    assert [gpu.uuid for gpu in node.gpus] == driver.uuids == ["GPU-0", "GPU-1"]
    assert {gpu.product for gpu in node.gpus} == {"NVIDIA H100 80GB HBM3"}
    assert {gpu.clock_method for gpu in node.gpus} == {ClockMethod.LOCKED_CLOCKS}
    assert {gpu.energy_source for gpu in node.gpus} == {EnergySource.COUNTER}
    assert node.driver_version == "580.95.05"
    assert node.left_out == ()


def test_opening_and_closing_change_nothing(driver):
    with open_gpus():
        assert [driver.commands(uuid) for uuid in driver.uuids] == [0, 0]
    assert [driver.commands(uuid) for uuid in driver.uuids] == [0, 0]
    assert driver.calls("nvmlEventSetFree") == driver.calls("nvmlEventSetCreate") == 2


def test_it_can_be_opened_again(driver):
    for _ in range(2):
        with open_gpus() as node:
            assert node.gpus[0].read().clock_mhz == 1980
    assert driver.calls("nvmlShutdown") == driver.calls("nvmlInit") == 2


def test_it_can_be_closed_twice(driver):
    node = open_gpus()
    node.close()
    node.close()
    assert driver.calls("nvmlShutdown") == 1
    with pytest.raises(GpuError, match="closed"):
        node.gpus[0].read()


def test_waiting_for_a_driver_leaves_no_threads_behind(driver):
    driver.set_loaded(False)
    for _ in range(3):
        with pytest.raises(OperationError):
            open_gpus()
    for thread in threading.enumerate():
        if thread.name == "nvml":
            thread.join(timeout=30)
            assert not thread.is_alive()
    driver.set_loaded(True)
    with open_gpus() as node:
        assert len(node.gpus) == 2


def test_a_gpu_lost_at_the_start_is_left_out(driver, caplog):
    driver.set_lost("GPU-0")
    with open_gpus() as node:
        assert [gpu.uuid for gpu in node.gpus] == ["GPU-1"]
        (why,) = node.left_out
        assert why.startswith("GPU 0: nvmlDeviceGetHandleByIndex: GPU is lost; ")
        assert why in caplog.text


def test_a_gpu_that_tells_only_who_it_is_is_kept(driver):
    driver.fail("nvmlDeviceGetSupportedMemoryClocks", Result.UNKNOWN, uuid="GPU-0")
    driver.fail("nvmlEventSetCreate", Result.UNKNOWN)
    with open_gpus() as node:
        assert [gpu.uuid for gpu in node.gpus] == ["GPU-0", "GPU-1"]
        driver.restore()
        assert node.gpus[0].supported_clocks_mhz()[-1] == 1980


def test_without_a_gpu_that_works_there_is_no_node(driver):
    for uuid in driver.uuids:
        driver.set_lost(uuid)
    with pytest.raises(OperationError, match=r"^no NVIDIA GPU to work with: GPU 0: .*; check that nvidia-smi works"):
        open_gpus()
    assert driver.calls("nvmlShutdown") == 1


def test_without_any_gpu_there_is_no_node(library, tmp_path, monkeypatch):
    empty = SimulatedDriver.create(tmp_path / "gpus", [])
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "gpus"))
    with pytest.raises(OperationError, match=r"^no NVIDIA GPU to work with: the driver has none; "):
        open_gpus()
    empty.close()


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (Result.DRIVER_NOT_LOADED, "Driver Not Loaded; load the NVIDIA kernel module"),
        (Result.NO_PERMISSION, "Insufficient Permissions; run as root"),
        (Result.UNKNOWN, "Unknown Error; check that nvidia-smi works"),
    ],
)
def test_a_driver_that_does_not_start_is_told_with_a_remedy(driver, result, told):
    driver.fail("nvmlInit", result)
    with pytest.raises(OperationError) as caught:
        open_gpus()
    assert str(caught.value).startswith(f"NVML does not start: {told}")
    assert "\n" not in str(caught.value)


def test_a_driver_that_hangs_at_the_start_is_given_up(driver, in_fresh_process, library):
    driver.fail("nvmlInit", hang=True)
    answer = in_fresh_process(
        f"from dynawatt.adapters.nvml import node\nnode._INITIALISE_WITHIN_S = 0.1\n{FAILS_TO_OPEN}",
        driver.environment(library),
    )
    assert answer == "nvmlInit has not returned yet; given up after 0.1 s; check that nvidia-smi works on the node"


def test_a_gpu_that_hangs_at_the_start_is_left_out(driver, in_fresh_process, library):
    driver.fail("nvmlDeviceGetUUID", hang=True, uuid="GPU-0")
    code = """
from dynawatt.adapters.nvml import node
node._OPEN_WITHIN_S = 0.5
with node.open_gpus() as opened:
    answer = [[gpu.uuid for gpu in opened.gpus], opened.left_out]
"""
    uuids, (why,) = in_fresh_process(code, driver.environment(library))
    assert uuids == ["GPU-1"]
    assert why.startswith("GPU 0: nvmlDeviceGetUUID has not returned yet")
    assert driver.calls("nvmlShutdown") == 0


def test_without_the_library_the_remedy_is_the_driver(tmp_path, in_fresh_process):
    Path(tmp_path, LIBRARY_NAME).touch()
    told = in_fresh_process(FAILS_TO_OPEN, {"LD_LIBRARY_PATH": str(tmp_path)})
    assert told.startswith("NVML does not start: NVML Shared Library Not Found; install the NVIDIA driver;")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("from pynvml.nvml import *", "is not NVIDIA's: run 'pip uninstall pynvml'"),
        ("from pynvml.nvml import *; from pynvml.nvml import _nvmlGetFunctionPointer", "is too old to lock clocks"),
    ],
    ids=["project-pynvml", "project-nvidia-ml-py3"],
)
def test_a_binding_of_others_is_refused(tmp_path, in_fresh_process, source, told):
    package = tmp_path / "pynvml"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    (package / "nvml.py").write_text("class NVMLError(Exception): pass\ndef _nvmlGetFunctionPointer(name): ...\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    answer = in_fresh_process(FAILS_TO_OPEN, {"PYTHONPATH": path})
    assert str(package) in answer
    assert told in answer


@pytest.mark.parametrize("uuid", ["GPU-5f0", b"GPU-5f0"])
def test_texts_are_the_same_from_old_and_new_bindings(uuid):
    assert text(uuid) == "GPU-5f0"


def test_a_binding_that_gives_bytes_is_understood(driver, monkeypatch):
    get_uuid = pynvml.nvmlDeviceGetUUID
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda device: get_uuid(device).encode())
    with open_gpus() as node:
        assert [gpu.uuid for gpu in node.gpus] == driver.uuids
