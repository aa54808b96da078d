import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynawatt.sandbox.driver.control import SimulatedDriver

from .conftest import NvmlError, eventually

TDP, UNLIMITED = 0xFFFFFF01, 0xFFFFFF02


def test_a_lock_takes_effect_and_lowers_power(client, driver):
    driver.set_load("GPU-0", 1.0)
    assert client.nvmlDeviceGetPowerUsage("@0") == 700_000
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 1000)
    assert driver.locked_mhz("GPU-0") == (345, 1000)
    eventually(lambda: client.nvmlDeviceGetClockInfo("@0", 1) == 990)
    assert client.nvmlDeviceGetPowerUsage("@0") == pytest.approx(260_000, abs=100)
    client.nvmlDeviceResetGpuLockedClocks("@0")
    assert driver.locked_mhz("GPU-0") is None
    eventually(lambda: client.nvmlDeviceGetClockInfo("@0", 1) == 1980)
    assert [driver.commands(uuid) for uuid in driver.uuids] == [2, 0, 0]


def test_locked_clocks_go_before_application_clocks(client, driver):
    client.nvmlDeviceSetApplicationsClocks("@1", 2619, 1200)
    eventually(lambda: driver.read("GPU-1").clock_mhz == 1200)
    client.nvmlDeviceSetGpuLockedClocks("@1", 1500, 1500)
    eventually(lambda: driver.read("GPU-1").clock_mhz == 1500)
    client.nvmlDeviceResetGpuLockedClocks("@1")
    eventually(lambda: driver.read("GPU-1").clock_mhz == 1200)
    assert driver.application_mhz("GPU-1") == 1200
    client.nvmlDeviceResetApplicationsClocks("@1")
    eventually(lambda: driver.read("GPU-1").clock_mhz == 1980)
    assert driver.application_mhz("GPU-1") is None


@pytest.mark.parametrize(
    ("limits", "locked"),
    [
        ((TDP, TDP), (1980, 1980)),
        ((UNLIMITED, TDP), (345, 1980)),
        ((UNLIMITED, UNLIMITED), (345, 1980)),
        ((345, 1980), (345, 1980)),
        ((1201, 1209), (1201, 1209)),
    ],
)
def test_accepted_ranges(client, driver, limits, locked):
    client.nvmlDeviceSetGpuLockedClocks("@0", *limits)
    assert driver.locked_mhz("GPU-0") == locked


@pytest.mark.parametrize("limits", [(330, 900), (345, 1981), (900, 899), (0, 0), (TDP, 900), (345, UNLIMITED)])
def test_refused_ranges_change_nothing(client, driver, limits):
    with pytest.raises(NvmlError, match="InvalidArgument"):
        client.nvmlDeviceSetGpuLockedClocks("@0", *limits)
    assert (driver.locked_mhz("GPU-0"), driver.commands("GPU-0")) == (None, 0)


@pytest.mark.parametrize("pair", [(2619, 1201), (2618, 1200), (405, 1200), (2619, 0)])
def test_application_clocks_must_be_a_supported_pair(client, driver, pair):
    with pytest.raises(NvmlError, match="InvalidArgument"):
        client.nvmlDeviceSetApplicationsClocks("@0", *pair)
    assert driver.application_mhz("GPU-0") is None


def test_a_lock_outlives_the_killed_client_and_is_seen_by_the_next(connect, driver):
    client = connect()
    driver.set_load("GPU-2", 1.0)
    client.nvmlDeviceSetGpuLockedClocks("@2", 345, 600)
    client.kill()
    assert driver.locked_mhz("GPU-2") == (345, 600)
    again = connect()
    eventually(lambda: again.nvmlDeviceGetClockInfo("@2", 1) == 600)
    assert again.nvmlDeviceGetTotalEnergyConsumption("@2") > 0


def test_a_lock_outlives_shutdown(client, driver):
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 600)
    client.nvmlShutdown()
    assert driver.locked_mhz("GPU-0") == (345, 600)
    driver.reload()
    assert driver.locked_mhz("GPU-0") is None
    assert driver.read("GPU-0").clock_mhz == 1980


def test_a_kill_in_the_middle_of_calls_leaves_a_whole_state(connect, driver):
    """Whenever it hits, the lock is one of those set, the counter does not fall, and nobody else waits."""
    for _ in range(5):
        client = connect()
        before_j, before = driver.read("GPU-0").energy_j, driver.commands("GPU-0")
        for clock_mhz in range(600, 1200, 15):
            client.begin("nvmlDeviceSetGpuLockedClocks", "@0", clock_mhz, clock_mhz)
        eventually(lambda before=before: driver.commands("GPU-0") > before)
        client.kill()
        low, high = driver.locked_mhz("GPU-0")
        assert low == high
        assert low in range(600, 1200, 15)
        assert driver.read("GPU-0").energy_j >= before_j


def test_energy_follows_load_and_clock(client, driver):
    def average_w(seconds):
        begin_j, begin_s = client.nvmlDeviceGetTotalEnergyConsumption("@0") / 1e3, time.monotonic()
        time.sleep(seconds)
        end_j, end_s = client.nvmlDeviceGetTotalEnergyConsumption("@0") / 1e3, time.monotonic()
        return (end_j - begin_j) / (end_s - begin_s)

    assert average_w(0.2) == pytest.approx(67.6, rel=0.1)
    driver.set_load("GPU-0", 0.5)
    assert average_w(0.2) == pytest.approx((67.6 + 700) / 2, rel=0.1)
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 345)
    eventually(lambda: driver.read("GPU-0").clock_mhz == 345)
    low_w = driver.read("GPU-0").power_w
    assert low_w < 110
    assert average_w(0.2) == pytest.approx(low_w, rel=0.1)


def test_both_ends_count_the_same_energy(client, driver):
    driver.set_load("GPU-0", 1.0)
    client.nvmlDeviceSetGpuLockedClocks("@0", 345, 705)
    for _ in range(20):
        before_j = driver.read("GPU-0").energy_j
        counter_mj = client.nvmlDeviceGetTotalEnergyConsumption("@0")
        after_j = driver.read("GPU-0").energy_j
        assert int(before_j * 1e3) <= counter_mj <= int(after_j * 1e3)
        time.sleep(0.005)


STEPS = st.lists(st.tuples(st.floats(0.0, 0.2), st.none() | st.floats(0.0, 1.0)), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(STEPS)
def test_the_counter_is_the_integral_of_power(monkeypatch, driver, steps):
    now_s = [1000.0]
    monkeypatch.setattr("time.monotonic_ns", lambda: round(now_s[0] * 1e9))
    driver.reload()
    driver.set_load("GPU-0", 0.0)
    expected_j = 0.0
    for pause_s, load in steps:
        expected_j += driver.read("GPU-0").power_w * pause_s
        now_s[0] += pause_s
        if load is not None:
            driver.set_load("GPU-0", load)
        assert driver.read("GPU-0").energy_j == pytest.approx(expected_j, rel=1e-6, abs=1e-6)


def test_the_counter_can_fall_as_after_a_reboot(client, driver):
    driver.set_energy("GPU-0", 5000.0)
    assert client.nvmlDeviceGetTotalEnergyConsumption("@0") >= 5_000_000
    driver.set_energy("GPU-0", 1.0)
    assert client.nvmlDeviceGetTotalEnergyConsumption("@0") < 5_000_000


def test_two_controls_see_one_file(client, driver):
    other = SimulatedDriver(driver._file.path)
    other.set_load("GPU-0", 1.0)
    assert client.nvmlDeviceGetPowerUsage("@0") == 700_000
    assert driver.read("GPU-0").power_w == 700.0
    other.close()
