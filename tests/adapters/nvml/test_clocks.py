from dataclasses import replace

import pytest

from dynawatt.adapters.nvml.node import open_gpus
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import ClockMethod, GpuError, GpuLostError, GpuNotSupportedError, GpuPermissionError
from dynawatt.sandbox.driver.build import Flavour, ensure_driver
from dynawatt.sandbox.driver.control import Result, SimulatedDriver
from dynawatt.sandbox.driver.layout import STATE_VARIABLE
from dynawatt.sandbox.driver.models import GpuModel

LOCK = "nvmlDeviceSetGpuLockedClocks"
UNLOCK = "nvmlDeviceResetGpuLockedClocks"
APPLY = "nvmlDeviceSetApplicationsClocks"
UNAPPLY = "nvmlDeviceResetApplicationsClocks"


@pytest.fixture
def gpu(node):
    return node.gpus[0]


def test_the_clocks_of_the_highest_memory_clock_are_supported(gpu):
    assert gpu.supported_clocks_mhz() == H100_SXM.supported_clocks_mhz


def test_a_lock_holds_one_gpu_and_a_reset_ends_it(gpu, driver):
    gpu.lock_clocks(345, 1200)
    assert [driver.locked_mhz(uuid) for uuid in driver.uuids] == [(345, 1200), None]
    gpu.reset_clocks()
    assert driver.locked_mhz("GPU-0") is None


def test_a_reset_undoes_only_what_this_process_set(gpu, driver):
    gpu.lock_clocks(345, 1200)
    gpu.reset_clocks()
    gpu.reset_clocks()
    assert driver.calls(UNLOCK) == 2
    assert driver.calls(UNAPPLY) == 0


def test_a_reset_before_anything_was_set_undoes_what_an_earlier_process_left(driver):
    for method in (ClockMethod.LOCKED_CLOCKS, ClockMethod.APPLICATIONS_CLOCKS):
        with open_gpus(clock_method=method) as earlier:
            earlier.gpus[0].lock_clocks(345, 1200)
    assert (driver.locked_mhz("GPU-0"), driver.application_mhz("GPU-0")) == ((345, 1200), 1200)
    with open_gpus() as node:
        node.gpus[0].reset_clocks()
    assert (driver.locked_mhz("GPU-0"), driver.application_mhz("GPU-0")) == (None, None)


@pytest.mark.parametrize("missing", [UNLOCK, UNAPPLY])
def test_a_reset_needs_only_one_method(gpu, driver, missing):
    driver.fail(missing, Result.NOT_SUPPORTED)
    gpu.reset_clocks()


def test_a_reset_that_no_method_can_do_fails(gpu, driver):
    driver.fail(UNLOCK, Result.NOT_SUPPORTED)
    driver.fail(UNAPPLY, Result.NOT_SUPPORTED)
    with pytest.raises(GpuNotSupportedError):
        gpu.reset_clocks()


@pytest.mark.parametrize("failing", [UNLOCK, UNAPPLY])
def test_a_reset_of_which_one_part_failed_is_no_reset_but_both_are_tried(gpu, driver, failing):
    driver.fail(failing, Result.UNKNOWN)
    with pytest.raises(GpuError, match=f"^GPU-0: {failing}: Unknown Error$"):
        gpu.reset_clocks()
    assert driver.calls(UNLOCK) == driver.calls(UNAPPLY) == 1


def test_after_a_reset_that_failed_the_same_is_tried_again(gpu, driver):
    gpu.lock_clocks(345, 1200)
    driver.fail(UNLOCK, Result.UNKNOWN, calls=1)
    with pytest.raises(GpuError):
        gpu.reset_clocks()
    gpu.reset_clocks()
    assert driver.locked_mhz("GPU-0") is None


def test_a_lock_that_failed_unclearly_is_undone_by_the_next_reset(gpu, driver):
    driver.fail(LOCK, Result.UNKNOWN, calls=1)
    with pytest.raises(GpuError):
        gpu.lock_clocks(345, 1200)
    gpu.reset_clocks()
    assert driver.calls(UNLOCK) == 1
    assert driver.calls(UNAPPLY) == 0


def test_a_refusal_changes_the_method_of_that_gpu_and_is_remembered(node, driver, caplog):
    driver.fail(LOCK, Result.NOT_SUPPORTED, uuid="GPU-0")
    refusing, other = node.gpus
    for clock_mhz in (1200, 1500):
        refusing.lock_clocks(345, clock_mhz)
        assert driver.application_mhz("GPU-0") == clock_mhz
    other.lock_clocks(345, 1200)
    assert [gpu.clock_method for gpu in node.gpus] == [ClockMethod.APPLICATIONS_CLOCKS, ClockMethod.LOCKED_CLOCKS]
    assert driver.calls(LOCK, "GPU-0") == 1
    assert caplog.text.count("method=ApplicationsClocks") == 1
    refusing.reset_clocks()
    assert driver.application_mhz("GPU-0") is None
    assert driver.calls(UNLOCK, "GPU-0") == 0


def test_a_gpu_older_than_locked_clocks_is_known_by_its_architecture(library, tmp_path, monkeypatch):
    pascal = replace(GpuModel.of(H100_SXM, "GPU-0"), architecture=4)
    driver = SimulatedDriver.create(tmp_path / "gpus", [pascal])
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "gpus"))
    with open_gpus() as node:
        assert node.gpus[0].clock_method is ClockMethod.APPLICATIONS_CLOCKS
        node.gpus[0].lock_clocks(345, 1200)
    assert driver.application_mhz("GPU-0") == 1200
    driver.close()


def test_a_gpu_that_refuses_both_methods_has_none(gpu, driver):
    driver.fail(LOCK, Result.NOT_SUPPORTED)
    driver.fail(APPLY, Result.NOT_SUPPORTED)
    for _ in range(2):
        with pytest.raises(GpuNotSupportedError, match=r"^GPU-0: its clocks cannot be set"):
            gpu.lock_clocks(345, 1200)
    assert gpu.clock_method is ClockMethod.NONE
    assert gpu.supported_clocks_mhz() == ()
    assert driver.calls(LOCK) == driver.calls(APPLY) == 1


def test_what_once_worked_is_not_changed_by_a_refusal(gpu, driver):
    gpu.lock_clocks(345, 1200)
    driver.fail(LOCK, Result.NOT_SUPPORTED, calls=1)
    with pytest.raises(GpuNotSupportedError):
        gpu.lock_clocks(345, 1500)
    gpu.lock_clocks(345, 1500)
    assert gpu.clock_method is ClockMethod.LOCKED_CLOCKS
    assert driver.calls(APPLY) == 0


@pytest.mark.parametrize(
    ("result", "kind", "told"),
    [
        (Result.NO_PERMISSION, GpuPermissionError, "Insufficient Permissions; run as root with CAP_SYS_ADMIN"),
        (Result.GPU_IS_LOST, GpuLostError, "GPU is lost; drain the node"),
        (Result.UNKNOWN, GpuError, "Unknown Error"),
    ],
)
def test_other_failures_keep_the_method(gpu, driver, result, kind, told):
    driver.fail(LOCK, result)
    with pytest.raises(kind, match=f"^GPU-0: {LOCK}: {told}"):
        gpu.lock_clocks(345, 1200)
    assert gpu.clock_method is ClockMethod.LOCKED_CLOCKS
    assert driver.calls(APPLY) == 0


def test_a_clock_out_of_range_is_the_drivers_to_refuse(gpu):
    with pytest.raises(GpuError, match="Invalid Argument"):
        gpu.lock_clocks(345, 9999)


@pytest.mark.parametrize("clocks_mhz", [(1200, 345), (0, 345), (-5, 345)])
def test_what_is_no_range_does_not_reach_the_driver(gpu, driver, clocks_mhz):
    with pytest.raises(GpuError, match="is no range of clocks"):
        gpu.lock_clocks(*clocks_mhz)
    assert driver.calls(LOCK) == 0


@pytest.mark.parametrize("current", [True, False])
def test_a_partitioned_gpu_is_left_alone(gpu, driver, current):
    driver.set_mig("GPU-0", current, pending=not current)
    assert gpu.supported_clocks_mhz() == ()
    with pytest.raises(GpuNotSupportedError, match="MIG"):
        gpu.lock_clocks(345, 1200)
    assert driver.calls(LOCK) == driver.calls(APPLY) == 0
    driver.set_mig("GPU-0", False)
    gpu.lock_clocks(345, 1200)
    assert driver.locked_mhz("GPU-0") == (345, 1200)


def test_unless_it_is_known_that_a_gpu_is_not_partitioned_it_is_left_alone(gpu, driver):
    driver.fail("nvmlDeviceGetMigMode", Result.UNKNOWN)
    with pytest.raises(GpuError, match="nvmlDeviceGetMigMode"):
        gpu.lock_clocks(345, 1200)
    assert driver.calls(LOCK) == 0


def test_a_gpu_without_mig_is_not_partitioned(gpu, driver):
    driver.fail("nvmlDeviceGetMigMode", Result.NOT_SUPPORTED)
    gpu.lock_clocks(345, 1200)
    assert driver.locked_mhz("GPU-0") == (345, 1200)


@pytest.mark.parametrize("function", ["nvmlDeviceGetSupportedMemoryClocks", "nvmlDeviceGetSupportedGraphicsClocks"])
def test_a_gpu_that_names_no_clocks_has_none_to_set(driver, function):
    driver.fail(function, Result.NOT_SUPPORTED, uuid="GPU-0")
    with open_gpus() as node:
        assert [gpu.clock_method for gpu in node.gpus] == [ClockMethod.NONE, ClockMethod.LOCKED_CLOCKS]
        assert node.gpus[0].supported_clocks_mhz() == ()


def test_clocks_that_cannot_be_told_now_may_be_told_later(gpu, driver):
    driver.fail("nvmlDeviceGetSupportedGraphicsClocks", Result.UNKNOWN, calls=1)
    with pytest.raises(GpuError):
        gpu.supported_clocks_mhz()
    assert gpu.supported_clocks_mhz() == H100_SXM.supported_clocks_mhz


def test_applications_clocks_can_be_forced(driver):
    with open_gpus(clock_method=ClockMethod.APPLICATIONS_CLOCKS) as node:
        gpu = node.gpus[0]
        assert gpu.clock_method is ClockMethod.APPLICATIONS_CLOCKS
        gpu.lock_clocks(345, 1200)
        assert (driver.application_mhz("GPU-0"), driver.calls(LOCK)) == (1200, 0)
        gpu.reset_clocks()
        assert (driver.application_mhz("GPU-0"), driver.calls(UNLOCK)) == (None, 0)


@pytest.mark.parametrize(
    ("method", "function"), [(ClockMethod.LOCKED_CLOCKS, LOCK), (ClockMethod.APPLICATIONS_CLOCKS, APPLY)]
)
def test_a_forced_method_has_no_other_to_follow(driver, method, function):
    driver.fail(function, Result.NOT_SUPPORTED)
    with open_gpus(clock_method=method) as node:
        with pytest.raises(GpuNotSupportedError):
            node.gpus[0].lock_clocks(345, 1200)
        assert node.gpus[0].clock_method is ClockMethod.NONE
    assert driver.commands("GPU-0") == 0


def test_a_node_whose_clocks_must_not_be_set_only_resets(driver):
    with open_gpus(clock_method=ClockMethod.LOCKED_CLOCKS) as earlier:
        earlier.gpus[0].lock_clocks(345, 1200)
    with open_gpus(clock_method=ClockMethod.NONE) as node:
        gpu = node.gpus[0]
        assert gpu.supported_clocks_mhz() == ()
        with pytest.raises(GpuNotSupportedError):
            gpu.lock_clocks(345, 1500)
        gpu.reset_clocks()
    assert driver.locked_mhz("GPU-0") is None


@pytest.mark.parametrize(
    ("flavour", "method", "set_to"),
    [
        (Flavour.OLD, "ApplicationsClocks", [None, 1200]),
        (Flavour.CURRENT, "LockedClocks", [[345, 1200], None]),
        (Flavour.NEXT, "LockedClocks", [[345, 1200], None]),
    ],
)
def test_drivers_of_all_ages_are_served(driver, in_fresh_process, flavour, method, set_to):
    code = """
import os
from pathlib import Path
from dynawatt.adapters.nvml.node import open_gpus
from dynawatt.sandbox.driver.control import SimulatedDriver
driver = SimulatedDriver(Path(os.environ["DYNAWATT_NVML_STATE"]))
with open_gpus() as node:
    gpu = node.gpus[0]
    method = gpu.clock_method
    gpu.reset_clocks()
    gpu.lock_clocks(345, 1200)
    during = [driver.locked_mhz(gpu.uuid), driver.application_mhz(gpu.uuid)]
    gpu.reset_clocks()
    after = [driver.locked_mhz(gpu.uuid), driver.application_mhz(gpu.uuid)]
    reading = gpu.read()
    answer = [method, during, after, reading.temperature_c, list(reading.throttling)]
"""
    driver.set_temperature("GPU-0", 55)
    driver.set_throttle_reasons("GPU-0", 0x4)
    answer = in_fresh_process(code, driver.environment(ensure_driver(flavour=flavour)))
    assert answer == [method, set_to, [None, None], 55, ["sw_power_cap"]]
