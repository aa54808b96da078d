import os
import time

import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.sandbox.driver.build import Flavour, ensure_driver
from dynawatt.sandbox.driver.control import Result, SimulatedDriver
from dynawatt.sandbox.driver.layout import STATE_VARIABLE
from dynawatt.sandbox.driver.models import GpuModel
from dynawatt.sandbox.driver.statefile import StateFile

from .conftest import NvmlError, eventually

SET = "nvmlDeviceSetGpuLockedClocks"


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (Result.NO_PERMISSION, "NoPermission"),
        (Result.NOT_SUPPORTED, "NotSupported"),
        (Result.UNKNOWN, "Unknown"),
        (Result.RESET_REQUIRED, "ResetRequired"),
    ],
)
def test_a_function_fails_on_one_gpu_until_restored(client, driver, result, error):
    driver.fail(SET, result, uuid="GPU-1")
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 900)
    for _ in range(2):
        with pytest.raises(NvmlError, match=f"NVMLError_{error}$"):
            client.nvmlDeviceSetGpuLockedClocks("@1", 345, 900)
    assert driver.locked_mhz("GPU-1") is None
    assert (driver.calls(SET, "GPU-1"), driver.calls(SET)) == (2, 3)
    driver.restore(SET)
    client.nvmlDeviceSetGpuLockedClocks("@1", 345, 900)
    assert driver.locked_mhz("GPU-1") == (345, 900)


def test_the_next_calls_fail_and_later_ones_do_not(client, driver):
    driver.fail("nvmlDeviceGetPowerUsage", Result.TIMEOUT, calls=2)

    def outcome():
        try:
            return client.nvmlDeviceGetPowerUsage("@0")
        except NvmlError as error:
            return str(error)

    assert [outcome() for _ in range(3)] == ["NVMLError_Timeout", "NVMLError_Timeout", 67_600]
    assert driver.calls("nvmlDeviceGetPowerUsage", "GPU-0") == 3


def test_a_slow_call_does_its_work_in_the_end(client, driver):
    driver.fail(SET, uuid="GPU-0", delay_s=0.2)
    started_s = time.monotonic()
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 900)
    assert time.monotonic() - started_s >= 0.2
    assert driver.locked_mhz("GPU-0") == (345, 900)


def test_a_hanging_call_leaves_other_gpus_and_processes_alone(connect, driver):
    clients = [connect(), connect()]
    driver.fail(SET, uuid="GPU-0", hang=True)
    hanging = clients[0].begin(SET, "@0", 345, 900)
    eventually(lambda: driver.calls(SET, "GPU-0") == 1)
    for client in clients:
        client.nvmlDeviceSetGpuLockedClocks("@1", 345, 900)
        assert client.nvmlDeviceGetClockInfo("@0", 1) == 1980
    assert not clients[0].has_ended(hanging)
    assert driver.locked_mhz("GPU-0") is None
    driver.restore()
    clients[0].end(hanging)
    assert driver.locked_mhz("GPU-0") == (345, 900)


def test_only_the_calls_counted_hang_and_fail_when_released(client, driver):
    driver.fail(SET, Result.UNKNOWN, uuid="GPU-0", hang=True, calls=1)
    hanging = client.begin(SET, "@0", 345, 900)
    eventually(lambda: driver.calls(SET, "GPU-0") == 1)
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 600)
    assert not client.has_ended(hanging)
    driver.restore(SET, uuid="GPU-0")
    with pytest.raises(NvmlError, match="Unknown"):
        client.end(hanging)
    assert driver.locked_mhz("GPU-0") == (345, 600)


def test_a_process_with_a_hanging_call_can_be_killed(connect, driver):
    client = connect()
    driver.fail(SET, hang=True)
    client.begin(SET, "@0", 345, 900)
    eventually(lambda: driver.calls(SET) == 1)
    client.kill()
    driver.restore()
    connect().nvmlDeviceSetGpuLockedClocks("@0", 345, 600)
    assert driver.locked_mhz("GPU-0") == (345, 600)


def test_a_lost_gpu_answers_nothing_but_keeps_its_lock(client, driver):
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 900)
    driver.set_lost("GPU-0")
    for call in (
        lambda: client.nvmlDeviceGetPowerUsage("@0"),
        lambda: client.nvmlDeviceResetGpuLockedClocks("@0"),
        lambda: client.nvmlDeviceGetHandleByIndex(0),
        lambda: client.nvmlDeviceGetHandleByUUID("GPU-0"),
    ):
        with pytest.raises(NvmlError, match="GpuIsLost"):
            call()
    assert client.nvmlDeviceGetPowerUsage("@1") == 67_600
    assert driver.locked_mhz("GPU-0") == (345, 900)
    driver.set_lost("GPU-0", False)
    client.nvmlDeviceResetGpuLockedClocks("@0")
    assert driver.locked_mhz("GPU-0") is None


def test_initialization_can_fail_hang_and_be_repeated(connect, driver):
    client = connect(init=False)
    with pytest.raises(NvmlError, match="Uninitialized"):
        client.nvmlDeviceGetCount()
    driver.fail("nvmlInit", Result.NO_PERMISSION, calls=1)
    with pytest.raises(NvmlError, match="NoPermission"):
        client.nvmlInit()
    driver.set_loaded(False)
    with pytest.raises(NvmlError, match="DriverNotLoaded"):
        client.nvmlInit()
    driver.set_loaded(True)
    driver.fail("nvmlInit", hang=True)
    hanging = client.begin("nvmlInit")
    eventually(lambda: driver.calls("nvmlInit") == 3)
    with pytest.raises(NvmlError, match="Uninitialized"):
        client.nvmlDeviceGetCount()
    driver.restore("nvmlInit")
    client.end(hanging)
    assert client.nvmlDeviceGetCount() == 3
    client.nvmlInit()
    client.nvmlShutdown()
    assert client.nvmlDeviceGetCount() == 3
    client.nvmlShutdown()
    with pytest.raises(NvmlError, match="Uninitialized"):
        client.nvmlDeviceGetUUID(None)
    with pytest.raises(NvmlError, match="Uninitialized"):
        client.nvmlShutdown()


@pytest.mark.parametrize("function", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetCount"])
def test_calls_without_a_gpu_can_fail(client, driver, function):
    driver.fail(function, Result.UNKNOWN)
    with pytest.raises(NvmlError, match="Unknown"):
        getattr(client, function)(*([0] if "Handle" in function else []))


def test_one_gpu_may_refuse_its_handle(client, driver):
    driver.fail("nvmlDeviceGetHandleByIndex", Result.UNKNOWN, uuid="GPU-1")
    assert client.nvmlDeviceGetHandleByIndex(0) == "GPU-0"
    with pytest.raises(NvmlError, match="Unknown"):
        client.nvmlDeviceGetHandleByIndex(1)
    driver.restore()
    assert client.nvmlDeviceGetHandleByIndex(1) == "GPU-1"


@pytest.mark.parametrize(
    ("flavour", "missing"),
    [
        (Flavour.OLD, {SET, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV"}),
        (
            Flavour.NEXT,
            {
                "nvmlDeviceSetApplicationsClocks",
                "nvmlDeviceGetCurrentClocksThrottleReasons",
                "nvmlDeviceGetTemperature",
            },
        ),
    ],
)
def test_functions_that_a_flavour_lacks(connect, flavour, missing):
    arguments = {
        SET: ("@0", 345, 900),
        "nvmlDeviceSetApplicationsClocks": ("@0", 2619, 900),
        "nvmlDeviceGetCurrentClocksEventReasons": ("@0",),
        "nvmlDeviceGetCurrentClocksThrottleReasons": ("@0",),
        "nvmlDeviceGetTemperatureV": ("@0", 0),
        "nvmlDeviceGetTemperature": ("@0", 0),
    }
    client = connect(folder=ensure_driver(flavour=flavour))
    failed = set()
    for function, values in arguments.items():
        try:
            getattr(client, function)(*values)
        except NvmlError as error:
            assert str(error) == "NVMLError_FunctionNotFound"  # noqa: PT017 - which of them raise is asserted below
            failed.add(function)
    assert failed == missing


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, "DriverNotLoaded"), (b"", "LibRmVersionMismatch"), (b"x" * 100, "LibRmVersionMismatch")],
)
def test_a_file_that_is_no_state_is_refused(connect, tmp_path, content, error):
    path = tmp_path / "other"
    if content is not None:
        path.write_bytes(content)
    client = connect(init=False, **{STATE_VARIABLE: str(path)})
    with pytest.raises(NvmlError, match=error):
        client.nvmlInit()
    client.process.kill()
    assert f"{STATE_VARIABLE}={path}: " in client.process.stderr.read()


def test_a_state_of_another_version_is_refused_by_both_ends(connect, driver):
    path = driver._file.path
    content = bytearray(path.read_bytes())
    content[8] += 1
    other = path.with_name("other")
    other.write_bytes(content)
    with pytest.raises(NvmlError, match="LibRmVersionMismatch"):
        connect(init=False, **{STATE_VARIABLE: str(other)}).nvmlInit()
    open_files = len(os.listdir("/proc/self/fd"))
    for text in (bytes(content), b"short"):
        other.write_bytes(text)
        with pytest.raises(InvalidInputError, match="not a state file of this version"):
            StateFile(other)
    assert len(os.listdir("/proc/self/fd")) <= open_files + 1  # the mapping of the first lives until it is collected


def test_a_new_file_is_used_after_shutdown(client, driver):
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 900)
    client.nvmlShutdown()
    new = SimulatedDriver.create(driver._file.path, [GpuModel.of(H100_SXM, "GPU-new")])
    client.nvmlInit()
    assert client.nvmlDeviceGetCount() == 1
    assert client.nvmlDeviceGetUUID("@0") == "GPU-new"
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 600)
    assert (new.locked_mhz("GPU-new"), driver.locked_mhz("GPU-0")) == ((345, 600), (345, 900))
    new.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"uuid": ""}, "uuid '' of a simulated GPU"),
        ({"product": "x" * 96}, "must have 1 to 95 bytes"),
        ({"clocks_mhz": ()}, "0 clocks"),
        ({"clocks_mhz": range(257), "full_load_w": range(257)}, "257 clocks"),
        ({"full_load_w": (1.0,)}, "1 powers for 110 clocks"),
        ({"memory_clocks_mhz": ()}, "0 memory clocks"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    import dataclasses

    model = dataclasses.replace(GpuModel.of(H100_SXM, "GPU-0"), **change)
    with pytest.raises(InvalidInputError, match=message):
        SimulatedDriver.create(tmp_path / "node.gpus", [model])
    assert list(tmp_path.iterdir()) == []


def test_seventeen_gpus_are_too_many(tmp_path):
    models = [GpuModel.of(H100_SXM, f"GPU-{index}") for index in range(17)]
    with pytest.raises(InvalidInputError, match="17 GPUs on one node"):
        SimulatedDriver.create(tmp_path / "node.gpus", models)
