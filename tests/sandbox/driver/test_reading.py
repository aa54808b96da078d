import pynvml
import pytest

from .conftest import NvmlError


def test_inventory(client):
    assert client.nvmlDeviceGetCount() == 3
    assert client.nvmlSystemGetDriverVersion() == "580.95.05"
    assert client.nvmlSystemGetNVMLVersion() == "13.580.95.05"
    assert [client.nvmlDeviceGetUUID(f"@{index}") for index in range(3)] == ["GPU-0", "GPU-1", "GPU-2"]
    assert client.nvmlDeviceGetHandleByUUID("GPU-2") == "GPU-2"
    assert client.nvmlDeviceGetIndex("@2") == 2
    assert client.nvmlDeviceGetName("@0") == "NVIDIA H100 80GB HBM3"
    assert client.nvmlDeviceGetArchitecture("@0") == pynvml.NVML_DEVICE_ARCH_HOPPER


def test_supported_clocks_come_in_descending_order(client):
    assert client.nvmlDeviceGetSupportedMemoryClocks("@0") == [2619, 405]
    assert client.nvmlDeviceGetSupportedGraphicsClocks("@0", 2619) == list(range(1980, 344, -15))
    assert client.nvmlDeviceGetSupportedGraphicsClocks("@0", 405) == [345]
    with pytest.raises(NvmlError, match="NVMLError_NotFound"):
        client.nvmlDeviceGetSupportedGraphicsClocks("@0", 2618)


def test_clocks_power_and_temperature(client, driver):
    driver.set_temperature("GPU-1", 61)
    clocks = [client.nvmlDeviceGetClockInfo("@1", kind) for kind in (0, 1, 2)]
    assert clocks == [1980, 1980, 2619]
    assert client.nvmlDeviceGetPowerUsage("@1") == 67_600
    assert client.nvmlDeviceGetTemperature("@1", 0) == client.nvmlDeviceGetTemperatureV("@1", 0) == 61
    assert client.nvmlDeviceGetDefaultApplicationsClock("@1", 1) == 1980


def test_throttle_reasons(client, driver):
    hot = pynvml.nvmlClocksEventReasonSwThermalSlowdown
    assert client.nvmlDeviceGetCurrentClocksEventReasons("@0") == pynvml.nvmlClocksEventReasonGpuIdle
    driver.set_load("GPU-0", 0.5)
    driver.set_throttle_reasons("GPU-0", hot)
    assert client.nvmlDeviceGetCurrentClocksEventReasons("@0") == hot
    client.nvmlDeviceSetApplicationsClocks("@0", 2619, 1200)
    both = hot | pynvml.nvmlClocksEventReasonApplicationsClocksSetting
    assert client.nvmlDeviceGetCurrentClocksThrottleReasons("@0") == both
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 900)
    assert client.nvmlDeviceGetCurrentClocksThrottleReasons("@0") == hot


def test_health(client, driver):
    driver.set_ecc_errors("GPU-0", corrected=7, uncorrected=2)
    driver.set_remapped_rows("GPU-0", corrected=1, uncorrected=3, pending=True)
    driver.set_mig("GPU-0", False, pending=True)
    driver.set_persistence("GPU-0", False)
    driver.set_compute_mode("GPU-0", pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS)
    errors = [[client.nvmlDeviceGetTotalEccErrors("@0", kind, counter) for counter in (0, 1)] for kind in (0, 1)]
    assert errors == [[7, 107], [2, 102]]
    assert client.nvmlDeviceGetRemappedRows("@0") == [1, 3, 1, 0]
    assert client.nvmlDeviceGetMigMode("@0") == [0, 1]
    assert client.nvmlDeviceGetPersistenceMode("@0") == 0
    assert client.nvmlDeviceGetComputeMode("@0") == 3
    assert client.nvmlDeviceGetRemappedRows("@1") == [0, 0, 0, 0]
    assert client.nvmlDeviceGetPersistenceMode("@1") == 1


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        ("nvmlDeviceGetHandleByIndex", (3,), "InvalidArgument"),
        ("nvmlDeviceGetHandleByUUID", ("GPU-3",), "NotFound"),
        ("nvmlDeviceGetHandleByUUID", ("GPU-",), "NotFound"),
        ("nvmlDeviceGetUUID", (None,), "InvalidArgument"),
        ("nvmlDeviceGetClockInfo", ("@0", 4), "InvalidArgument"),
        ("nvmlDeviceGetClockInfo", ("@0", pynvml.NVML_CLOCK_VIDEO), "NotSupported"),
        ("nvmlDeviceGetTemperature", ("@0", 9), "InvalidArgument"),
        ("nvmlDeviceGetTotalEccErrors", ("@0", 2, 0), "InvalidArgument"),
        ("nvmlDeviceGetTotalEccErrors", ("@0", 0, 2), "InvalidArgument"),
        ("nvmlDeviceGetPciInfo", ("@0",), "FunctionNotFound"),
    ],
)
def test_refusals(client, function, arguments, error):
    with pytest.raises(NvmlError, match=f"NVMLError_{error}$"):
        getattr(client, function)(*arguments)


def test_events_reach_every_client_once(connect, driver):
    clients = [connect(), connect()]
    for client in clients:
        client.nvmlEventSetCreate()
        client.nvmlDeviceRegisterEvents("@1", pynvml.nvmlEventTypeXidCriticalError, "@set")
    driver.raise_xid("GPU-0", 31)  # nobody registered for it
    driver.raise_xid("GPU-1", 79)
    driver.raise_xid("GPU-1", 48)
    for client in clients:
        for xid in (79, 48):
            event = client.nvmlEventSetWait("@set", 10_000)
            assert event == [pynvml.nvmlEventTypeXidCriticalError, xid, 0xFFFFFFFF]
        with pytest.raises(NvmlError, match="Timeout"):
            client.nvmlEventSetWait("@set", 30)
        client.nvmlEventSetFree("@set")


def test_a_waiting_client_is_woken_and_only_the_last_events_are_kept(client, driver):
    client.nvmlEventSetCreate()
    client.nvmlDeviceRegisterEvents("@0", client.nvmlDeviceGetSupportedEventTypes("@0"), "@set")
    waiting = client.begin("nvmlEventSetWait", "@set", 10_000)
    driver.raise_xid("GPU-0", 13)
    assert client.end(waiting)[1] == 13
    for xid in range(20):
        driver.raise_xid("GPU-0", xid)
    assert [client.nvmlEventSetWait("@set", 0)[1] for _ in range(16)] == list(range(4, 20))
    driver.set_lost("GPU-0")
    with pytest.raises(NvmlError, match="GpuIsLost"):
        client.nvmlEventSetWait("@set", 10_000)


def test_other_events_are_not_supported(client):
    client.nvmlEventSetCreate()
    with pytest.raises(NvmlError, match="NotSupported"):
        client.nvmlDeviceRegisterEvents("@0", pynvml.nvmlEventTypeClock, "@set")
