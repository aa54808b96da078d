import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.sandbox.nodesim.gpus import CLOCK_CHANGE_DELAY_S, SimulatedGpu, UnsupportedClockError, loaded_idle


@pytest.fixture
def gpu():
    return SimulatedGpu(uuid="GPU-0", spec=H100_SXM, now_s=100.0)


def test_energy_integrates_every_state_exactly(gpu):
    gpu.hold(110.0, lambda clock_mhz: clock_mhz / 10)
    gpu.run(115.0, 500.0)
    gpu.run(117.0, 300.0)
    gpu.run(118.0, None)
    gpu.release(120.0)
    reading = gpu.read(130.0)
    assert reading.energy_j == pytest.approx(10 * 70 + 5 * 198 + 2 * 500 + 1 * 300 + 2 * 198 + 10 * 70)
    assert reading.power_w == 70.0


def test_lock_takes_effect_late_and_changes_idle_power_then(gpu):
    gpu.hold(100.0, lambda clock_mhz: clock_mhz / 10)
    gpu.lock(101.0, 345, 1000)
    assert gpu.clock_mhz(101.0 + CLOCK_CHANGE_DELAY_S / 2) == 1980
    reading = gpu.read(102.0)
    assert (reading.clock_mhz, reading.power_w) == (990, 99.0)
    assert reading.energy_j == pytest.approx((1 + CLOCK_CHANGE_DELAY_S) * 198 + (1 - CLOCK_CHANGE_DELAY_S) * 99)


def test_a_running_iteration_keeps_its_power_when_the_clock_changes(gpu):
    gpu.hold(100.0, loaded_idle(H100_SXM))
    gpu.run(100.0, 400.0)
    gpu.lock(100.0, 345, 345)
    assert gpu.read(101.0).power_w == 400.0
    assert gpu.clock_mhz(101.0) == 345


def test_changes_in_quick_succession_all_arrive(gpu):
    gpu.lock(100.0, 345, 900)
    gpu.lock(100.04, 345, 1200)
    assert gpu.clock_mhz(100.06) == 900
    assert gpu.clock_mhz(100.10) == 1200
    gpu.reset(100.10)
    assert gpu.clock_mhz(100.2) == 1980
    assert gpu.locked_mhz is None


@pytest.mark.parametrize(("low", "high"), [(1200, 900), (330, 900), (345, 1995), (0, 0)])
def test_refuses_unsupported_ranges_and_stays_as_it_was(gpu, low, high):
    with pytest.raises(UnsupportedClockError, match=r"345\.\.1980"):
        gpu.lock(100.0, low, high)
    assert gpu.clock_mhz(101.0) == 1980


def test_a_lock_outlives_the_pod(gpu):
    gpu.hold(100.0, loaded_idle(H100_SXM))
    gpu.lock(100.0, 345, 600)
    gpu.release(101.0)
    assert gpu.clock_mhz(102.0) == 600


def test_loaded_idle_lies_between_released_and_running():
    assert H100_SXM.released_w < loaded_idle(H100_SXM)(800) < loaded_idle(H100_SXM)(1980) < H100_SXM.tdp_w


EVENTS = st.lists(
    st.tuples(
        st.floats(0, 5),
        st.sampled_from(["hold", "run", "rest", "release", "lock", "reset", "read"]),
        st.floats(70, 700),
    ),
    max_size=30,
)


@given(EVENTS)
def test_the_counter_never_falls_and_stays_within_power_bounds(events):
    gpu = SimulatedGpu(uuid="GPU-0", spec=H100_SXM, now_s=0.0)
    now_s = last_j = 0.0
    for pause_s, action, power_w in events:
        now_s += pause_s
        match action:
            case "hold":
                gpu.hold(now_s, loaded_idle(H100_SXM))
            case "run":
                gpu.run(now_s, power_w)
            case "rest":
                gpu.run(now_s, None)
            case "release":
                gpu.release(now_s)
            case "lock":
                gpu.lock(now_s, 345, 345 + 15 * int(power_w // 15))
            case "reset":
                gpu.reset(now_s)
        energy_j = gpu.read(now_s).energy_j
        assert energy_j >= last_j
        last_j = energy_j
    assert 70 * now_s * (1 - 1e-9) <= last_j <= 700 * now_s * (1 + 1e-9)
