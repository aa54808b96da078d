from collections import Counter

import pynvml
import pytest

from dynawatt.adapters.nvml.node import open_gpus
from dynawatt.ports import GpuError, GpuHealth
from dynawatt.sandbox.driver.control import Result

OPTIONAL = (
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetPersistenceMode",
    "nvmlDeviceGetComputeMode",
    "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetRemappedRows",
)


@pytest.fixture
def gpu(node):
    return node.gpus[0]


def test_modes_and_counts_of_one_gpu(gpu, driver):
    driver.set_mig("GPU-0", False)
    driver.set_persistence("GPU-0", True)
    driver.set_compute_mode("GPU-0", 3)
    driver.set_ecc_errors("GPU-0", corrected=7, uncorrected=2)
    driver.set_remapped_rows("GPU-0", corrected=1, uncorrected=3, pending=True, failed=False)
    assert gpu.health() == GpuHealth(
        mig=False,
        persistence=True,
        compute_mode="ExclusiveProcess",
        ecc_corrected=7,
        ecc_uncorrected=2,
        rows_remapped=4,
        row_remap_pending=True,
        row_remap_failed=False,
        xids={},
    )


def test_persistence_that_is_off_is_known(gpu, driver):
    driver.set_persistence("GPU-0", False)
    assert gpu.health().persistence is False


@pytest.mark.parametrize(("mode", "name"), [(0, "Default"), (2, "Prohibited"), (9, None)])
def test_compute_modes_have_names(gpu, driver, mode, name):
    driver.set_compute_mode("GPU-0", mode)
    assert gpu.health().compute_mode == name


@pytest.mark.parametrize(("current", "pending"), [(True, True), (True, False), (False, True)])
def test_mig_counts_from_when_it_is_asked_for_until_it_has_ended(gpu, driver, current, pending):
    driver.set_mig("GPU-0", current, pending=pending)
    assert gpu.health().mig


def test_what_a_gpu_does_not_tell_is_not_known(gpu, driver):
    for function in OPTIONAL:
        driver.fail(function, Result.NOT_SUPPORTED)
    assert gpu.health() == GpuHealth()


def test_a_gpu_that_may_be_partitioned_does_not_count_as_whole(gpu, driver):
    driver.fail("nvmlDeviceGetMigMode", Result.UNKNOWN)
    with pytest.raises(GpuError, match=r"^GPU-0: nvmlDeviceGetMigMode: Unknown Error$"):
        gpu.health()


def test_xids_are_counted_by_number_and_gpu(node, driver):
    gpu, other = node.gpus
    for xid in (79, 48, 79):
        driver.raise_xid("GPU-0", xid)
    assert gpu.health().xids == {79: 2, 48: 1}
    driver.raise_xid("GPU-0", 48)
    assert gpu.health().xids == {79: 2, 48: 2}
    assert other.health().xids == {}


def test_a_health_that_was_given_does_not_change(gpu, driver):
    driver.raise_xid("GPU-0", 31)
    before = gpu.health()
    driver.raise_xid("GPU-0", 31)
    gpu.health()
    assert before.xids == {31: 1}


def test_the_xids_of_a_gpu_that_was_lost_are_counted(gpu, driver):
    driver.raise_xid("GPU-0", 79)
    driver.set_lost("GPU-0")
    with pytest.raises(GpuError):
        gpu.health()
    driver.set_lost("GPU-0", False)
    assert gpu.health().xids == {79: 1}


def test_a_storm_of_xids_does_not_hold_up_a_reading(gpu, monkeypatch):
    event = pynvml.c_nvmlEventData_t(eventType=0x8, eventData=63)
    monkeypatch.setattr(pynvml, "nvmlEventSetWait_v2", lambda events, timeout_ms: event)
    assert gpu.health().xids == Counter({63: 100})


@pytest.mark.parametrize("function", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
def test_a_driver_without_events_leaves_xids_uncounted(driver, function):
    driver.fail(function, Result.NOT_SUPPORTED)
    with open_gpus() as node:
        driver.raise_xid("GPU-0", 79)
        assert node.gpus[0].health().xids == {}
