"""What a driver that is slow or hangs does to one GPU, and does not do to the others."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dynawatt.ports import GpuTimeoutError
from dynawatt.sandbox.driver.control import Result

LOCK = "nvmlDeviceSetGpuLockedClocks"
POWER = "nvmlDeviceGetPowerUsage"


@pytest.fixture
def quick_to_give_up(monkeypatch):
    monkeypatch.setattr("dynawatt.adapters.nvml.device.SET_WITHIN_S", 0.2)


def test_a_slow_call_within_its_bound_is_waited_for(node, driver):
    driver.fail(POWER, delay_s=0.05)
    assert node.gpus[0].read().power_w > 0


def test_a_gpu_whose_driver_hangs_fails_at_once_while_the_others_go_on(node, driver):
    hanging, other = node.gpus
    driver.fail(POWER, hang=True, uuid="GPU-0")
    with pytest.raises(GpuTimeoutError, match=rf"^GPU-0: {POWER} has not returned yet; given up after 0\.5 s$"):
        hanging.read()
    begun = driver.calls("nvmlDeviceGetClockInfo", "GPU-0")
    for call in (hanging.read, hanging.health, hanging.supported_clocks_mhz, hanging.reset_clocks):
        with pytest.raises(GpuTimeoutError, match=f"^GPU-0: {POWER} has not returned"):
            call()
    with pytest.raises(GpuTimeoutError):
        hanging.lock_clocks(345, 1200)
    assert driver.calls("nvmlDeviceGetClockInfo", "GPU-0") == begun
    assert other.read().power_w > 0
    other.lock_clocks(345, 1200)
    assert [driver.locked_mhz(uuid) for uuid in driver.uuids] == [None, (345, 1200)]


def test_a_gpu_whose_driver_recovers_goes_on(node, driver, until_it_returns):
    gpu = node.gpus[0]
    driver.fail(POWER, hang=True, uuid="GPU-0")
    with pytest.raises(GpuTimeoutError):
        gpu.read()
    driver.restore()
    until_it_returns(gpu.read)
    gpu.lock_clocks(345, 1200)
    assert driver.locked_mhz("GPU-0") == (345, 1200)


def test_a_lock_that_hangs_in_the_driver_may_still_come_and_is_undone_by_the_next_reset(
    node, driver, quick_to_give_up, until_it_returns
):
    gpu = node.gpus[0]
    driver.fail(LOCK, hang=True)
    with pytest.raises(GpuTimeoutError, match=f"^GPU-0: {LOCK} has not returned"):
        gpu.lock_clocks(345, 1200)
    driver.restore()
    until_it_returns(gpu.read)
    assert driver.locked_mhz("GPU-0") == (345, 1200)
    gpu.reset_clocks()
    assert driver.locked_mhz("GPU-0") is None


def test_a_lock_given_up_before_it_reached_the_driver_never_comes(node, driver, quick_to_give_up, until_it_returns):
    gpu = node.gpus[0]
    driver.fail("nvmlDeviceGetMigMode", hang=True)
    with pytest.raises(GpuTimeoutError, match=r"^GPU-0: nvmlDeviceGetMigMode has not returned"):
        gpu.lock_clocks(345, 1200)
    driver.restore()
    until_it_returns(gpu.read)
    assert driver.calls(LOCK) == 0


def test_a_lock_that_waited_behind_a_call_that_hangs_never_comes(node, driver, quick_to_give_up, until_it_returns):
    gpu = node.gpus[0]
    driver.fail(POWER, hang=True, uuid="GPU-0")
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(gpu.read)
        while not driver.calls(POWER, "GPU-0") > 1:  # the first one was made when the GPU was opened
            time.sleep(0.001)
        with pytest.raises(GpuTimeoutError):
            gpu.lock_clocks(345, 1200)
        assert isinstance(reading.exception(), GpuTimeoutError)
    driver.restore()
    until_it_returns(gpu.read)
    assert driver.calls(LOCK) == 0


def test_a_method_refused_too_late_is_not_followed_by_the_other(node, driver, monkeypatch, until_it_returns):
    monkeypatch.setattr("dynawatt.adapters.nvml.device.SET_WITHIN_S", 0.05)
    gpu = node.gpus[0]
    driver.fail(LOCK, Result.NOT_SUPPORTED, hang=True)
    with pytest.raises(GpuTimeoutError):
        gpu.lock_clocks(345, 1200)
    driver.restore()
    until_it_returns(gpu.read)
    assert driver.calls("nvmlDeviceSetApplicationsClocks") == 0


def test_a_node_whose_driver_hangs_is_closed_without_waiting_for_it(driver, in_fresh_process, library):
    code = f"""
import os
from pathlib import Path
from dynawatt.adapters.nvml.node import open_gpus
from dynawatt.ports import GpuTimeoutError
from dynawatt.sandbox.driver.control import SimulatedDriver
driver = SimulatedDriver(Path(os.environ["DYNAWATT_NVML_STATE"]))
node = open_gpus()
driver.fail("{POWER}", hang=True, uuid="GPU-0")
try:
    node.gpus[0].read()
except GpuTimeoutError:
    node.close()
    answer = "closed"
"""
    assert in_fresh_process(code, driver.environment(library)) == "closed"
    assert driver.calls("nvmlShutdown") == 0


def test_eight_threads_may_share_a_gpu(node, driver):
    gpu = node.gpus[0]
    with ThreadPoolExecutor(8) as pool:
        readings = [pool.submit(gpu.read) for _ in range(200)]
        resets = [pool.submit(gpu.reset_clocks) for _ in range(20)]
        assert all(reading.result().clock_mhz == 1980 for reading in readings)
        assert all(reset.result() is None for reset in resets)
    assert driver.calls("nvmlDeviceGetClockInfo", "GPU-0") == 201
