import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.agent.metering import NOBODY, EnergyKey, EnergyMeter
from dynawatt.ports import PodKey

A, B = PodKey("prod", "a"), PodKey("prod", "b")


def observe(meter: EnergyMeter, counter_j: float, holder: PodKey, now_s: float = 0.0) -> bool:
    return meter.observe(uuid="GPU-0", counter_j=counter_j, holder=holder, now_s=now_s)


def totals(meter: EnergyMeter, now_s: float = 0.0) -> dict[PodKey, float]:
    return {key.pod: energy_j for key, energy_j in meter.totals_j(now_s).items()}


def test_the_interval_belongs_to_who_held_the_gpu_at_its_start() -> None:
    meter = EnergyMeter()
    for counter_j, holder in [
        (1000.0, NOBODY),
        (1100.0, A),
        (1400.0, A),
        (1900.0, B),
        (2000.0, NOBODY),
        (2001.0, NOBODY),
    ]:
        observe(meter, counter_j, holder)
    assert totals(meter) == {NOBODY: 101.0, A: 800.0, B: 100.0}


def test_the_counter_before_the_start_is_nobodys() -> None:
    meter = EnergyMeter()
    observe(meter, 1e9, A)
    assert totals(meter) == {A: 0.0}


def test_driver_restart_counts_from_zero() -> None:
    meter = EnergyMeter()
    assert [observe(meter, counter_j, A) for counter_j in (500.0, 700.0, 30.0, 50.0)] == [False, False, True, False]
    assert totals(meter) == {A: 250.0}


def test_series_of_gone_pods_end_after_they_were_scraped() -> None:
    meter = EnergyMeter()
    observe(meter, 0.0, A, now_s=0.0)
    observe(meter, 5.0, B, now_s=1.0)
    observe(meter, 6.0, B, now_s=500.0)
    assert totals(meter, 500.0) == {A: 5.0, B: 1.0}
    assert totals(meter, 700.0) == {B: 1.0}


def test_gpus_are_apart() -> None:
    meter = EnergyMeter()
    for uuid, counters_j in (("GPU-0", (0.0, 3.0)), ("GPU-1", (100.0, 104.0))):
        for counter_j in counters_j:
            meter.observe(uuid=uuid, counter_j=counter_j, holder=A, now_s=0.0)
    assert meter.totals_j(0.0) == {EnergyKey("GPU-0", A): 3.0, EnergyKey("GPU-1", A): 4.0}


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([A, B, NOBODY])), min_size=1))
def test_energy_is_conserved(readings: list[tuple[int, PodKey]]) -> None:
    meter = EnergyMeter()
    counter_j = 0
    for delta_j, holder in readings:
        counter_j += delta_j
        observe(meter, float(counter_j), holder)
    assert sum(totals(meter).values()) == pytest.approx(counter_j - readings[0][0])
