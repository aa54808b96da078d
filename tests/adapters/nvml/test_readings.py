import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.nvml.node import open_gpus
from dynawatt.adapters.nvml.readings import IntegratedEnergy, throttling
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import EnergySource, GpuError, GpuLostError, GpuTimeoutError
from dynawatt.sandbox.driver.control import Result

ENERGY = "nvmlDeviceGetTotalEnergyConsumption"
READS = (
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetPowerUsage",
    ENERGY,
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
)


@pytest.fixture
def gpu(node):
    return node.gpus[0]


def test_all_values_have_the_units_of_the_port(gpu, driver):
    driver.set_load("GPU-0", 1.0)
    driver.set_energy("GPU-0", 5000.0)
    driver.set_temperature("GPU-0", 61)
    driver.set_throttle_reasons("GPU-0", 0x8 | 0x40)
    reading = gpu.read()
    assert reading.clock_mhz == 1980
    assert reading.power_w == pytest.approx(H100_SXM.tdp_w, abs=0.01)
    assert 5000 <= reading.energy_j <= driver.read("GPU-0").energy_j
    assert reading.temperature_c == 61
    assert reading.throttling == {"hw_slowdown", "hw_thermal_slowdown"}


def test_the_counter_is_in_joules_and_shows_a_driver_that_restarted(gpu, driver):
    driver.set_energy("GPU-0", 5e6)
    before_j = gpu.read().energy_j
    driver.reload()
    assert before_j >= 5e6
    assert gpu.read().energy_j < 1000


def test_without_a_counter_power_is_integrated_for_good(driver):
    driver.fail(ENERGY, Result.NOT_SUPPORTED, uuid="GPU-0")
    with open_gpus() as node:
        gpu, other = node.gpus
        assert (gpu.energy_source, other.energy_source) == (EnergySource.INTEGRATED, EnergySource.COUNTER)
        before = driver.read("GPU-0").energy_j, gpu.read().energy_j
        driver.restore()
        after = gpu.read().energy_j, driver.read("GPU-0").energy_j
        assert 0 < after[0] - before[1] <= after[1] - before[0]
        assert gpu.energy_source is EnergySource.INTEGRATED


@pytest.mark.parametrize("result", [Result.NOT_SUPPORTED, Result.UNKNOWN])
def test_a_counter_that_fails_once_is_not_replaced(gpu, driver, result):
    driver.fail(ENERGY, result, calls=1)
    assert gpu.read().energy_j is None
    assert gpu.energy_source is EnergySource.COUNTER
    assert gpu.read().energy_j is not None


def test_a_counter_that_fails_at_first_is_waited_for(driver):
    driver.fail(ENERGY, Result.UNKNOWN)
    with open_gpus() as node:
        assert node.gpus[0].read().energy_j is None
        driver.restore()
        assert node.gpus[0].read().energy_j is not None
        assert node.gpus[0].energy_source is EnergySource.COUNTER


@pytest.mark.parametrize(
    ("functions", "field"),
    [
        (READS[0:1], "clock_mhz"),
        (READS[1:2], "power_w"),
        (READS[2:3], "energy_j"),
        (READS[3:5], "temperature_c"),
        (READS[5:7], "throttling"),
    ],
)
def test_one_value_that_fails_leaves_the_others(driver, functions, field):
    for function in functions:
        driver.fail(function, Result.UNKNOWN)
    with open_gpus() as node:
        reading = node.gpus[0].read()
    assert [name for name, value in reading._asdict().items() if value is None] == [field]


def test_the_name_that_a_driver_has_is_remembered(driver):
    driver.fail("nvmlDeviceGetTemperatureV", Result.NOT_SUPPORTED)
    with open_gpus() as node:
        assert [node.gpus[0].read().temperature_c for _ in range(3)] == [32] * 3
    assert driver.calls("nvmlDeviceGetTemperatureV", "GPU-0") == 1


def test_a_gpu_of_which_nothing_can_be_read_does_not_answer(gpu, driver):
    for function in READS:
        driver.fail(function, Result.NO_PERMISSION)
    with pytest.raises(GpuError, match=r"^GPU-0: nvmlDeviceGetClockInfo: Insufficient Permissions"):
        gpu.read()


def test_a_lost_gpu_does_not_answer_and_may_return(node, driver):
    gpu, other = node.gpus
    driver.set_lost("GPU-0")
    with pytest.raises(GpuLostError, match=r"^GPU-0: nvmlDeviceGetClockInfo: GPU is lost; drain the node"):
        gpu.read()
    with pytest.raises(GpuLostError):
        gpu.health()
    assert other.read().clock_mhz == 1980
    driver.set_lost("GPU-0", False)
    assert gpu.read().clock_mhz == 1980


@pytest.mark.parametrize("function", READS[:4])
def test_any_value_that_times_out_in_the_driver_fails_the_reading(gpu, driver, function):
    driver.fail(function, Result.TIMEOUT)
    with pytest.raises(GpuTimeoutError, match=f"^GPU-0: {function}: Timeout$"):
        gpu.read()


@pytest.mark.parametrize("function", READS[:2])
def test_a_value_that_stands_for_none_is_none(gpu, monkeypatch, function):
    monkeypatch.setattr(f"pynvml.{function}", lambda *args: 2**32 - 1)
    assert gpu.read()[READS.index(function)] is None


# Nearly five seconds at most: a longer silence is a gap, and sums of steps are rounded.
@given(st.lists(st.tuples(st.floats(0.01, 4.99), st.floats(0, 1000)), min_size=1))
def test_integrated_energy_is_the_area_under_straight_lines(steps):
    energy = IntegratedEnergy()
    now_s, last_w, expected_j = 100.0, 50.0, 0.0
    assert energy.add(now_s, last_w) == 0.0
    for step_s, power_w in steps:
        now_s += step_s
        expected_j += step_s * min(last_w, power_w) + step_s * abs(power_w - last_w) / 2
        last_w = power_w
        assert energy.add(now_s, power_w) == pytest.approx(expected_j, abs=1e-6)


def test_no_energy_is_invented_for_a_gap():
    energy = IntegratedEnergy()
    energy.add(0.0, 100.0)
    assert energy.add(1.0, 100.0) == 100.0
    assert energy.add(600.0, 700.0) == 100.0
    assert energy.add(601.0, 700.0) == 800.0


@pytest.mark.parametrize(
    ("reasons", "names"),
    [
        (0x0, set()),
        (0x1 | 0x2, set()),
        (0x4, {"sw_power_cap"}),
        (0x1 | 0x20 | 0x80, {"sw_thermal_slowdown", "hw_power_brake_slowdown"}),
        (0x8000 | 0x10, {"sync_boost", "other"}),
    ],
)
def test_throttling_names_what_keeps_the_clock_down(reasons, names):
    assert throttling(reasons) == names
