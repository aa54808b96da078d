import pytest

from dynawatt.agent.efficiency import TokenEnergy, pod_energy_j
from dynawatt.agent.metering import GONE, NOBODY, EnergyKey
from dynawatt.ports import PodKey

from .views import A, B, pod_serving

KEY = EnergyKey("GPU-0", A)


def observe(
    meter: TokenEnergy, energy_j: float, tokens: float | None, now_s: float, *, read_s: float | None = None
) -> float | None:
    served = pod_serving(generation_tokens=tokens, as_of_s=now_s if read_s is None else read_s)
    return meter.observe({KEY: energy_j}, {A: served}, now_s).get(A)


def test_all_gpus_of_a_pod_and_no_others() -> None:
    energy_j = {KEY: 1.0, EnergyKey("GPU-1", A): 2.0, EnergyKey("GPU-2", B): 4.0}
    others = {EnergyKey("GPU-0", NOBODY): 8.0, EnergyKey("GPU-0", GONE): 16.0}
    assert pod_energy_j(energy_j | others) == {A: 3.0, B: 4.0}


def test_joules_over_tokens_of_the_last_minute() -> None:
    meter = TokenEnergy()
    found = [observe(meter, 1000.0 + 700.0 * second, 350.0 * second, float(second)) for second in range(100)]
    assert found[0] is None
    assert found[1:] == [2.0] * 99
    cheaper = [observe(meter, 70_300.0 + 350.0 * (second - 99), 350.0 * second, float(second)) for second in (100, 129)]
    assert cheaper[1] == pytest.approx(1.5, abs=0.05)  # half the window is half as dear
    assert observe(meter, 70_300.0 + 350.0 * 61, 350.0 * 160, 160.0) == 1.0


def test_a_reading_that_failed_does_not_put_them_apart() -> None:
    meter = TokenEnergy()
    observe(meter, 0.0, 0.0, 0.0)
    observe(meter, 700.0, 350.0, 1.0)
    assert observe(meter, 1400.0, 350.0, 2.0, read_s=1.0) == 2.0
    assert observe(meter, 2100.0, 1050.0, 3.0) == 2.0


@pytest.mark.parametrize(("energy_j", "tokens"), [(0.0, 500.0), (900.0, 0.0)])
def test_totals_that_began_anew_are_not_compared_with_the_old(energy_j: float, tokens: float) -> None:
    meter = TokenEnergy()
    observe(meter, 0.0, 0.0, 0.0)
    observe(meter, 800.0, 400.0, 1.0)
    assert observe(meter, energy_j, tokens, 2.0) is None
    assert observe(meter, energy_j + 30.0, tokens + 10.0, 3.0) == 3.0


def test_nothing_without_tokens() -> None:
    meter = TokenEnergy()
    assert [observe(meter, 70.0 * second, 5.0, float(second)) for second in range(10)] == [None] * 10
    assert observe(meter, 700.0, None, 10.0) is None


def test_nothing_of_pods_that_are_not_read_any_more() -> None:
    meter = TokenEnergy()
    observe(meter, 0.0, 0.0, 0.0)
    observe(meter, 2.0, 1.0, 10.0)
    found = [observe(meter, 100.0, 1.0, now_s, read_s=10.0) for now_s in (60.0, 61.0, 71.0)]
    assert found == [2.0, None, None]


def test_pods_are_apart() -> None:
    meter = TokenEnergy()
    for second in (0.0, 1.0):
        found = meter.observe(
            {KEY: 10.0 * second, EnergyKey("GPU-1", B): 30.0 * second},
            {pod: pod_serving(generation_tokens=10.0 * second, as_of_s=second) for pod in (A, B, PodKey("prod", "c"))},
            second,
        )
    assert found == {A: 1.0, B: 3.0}
