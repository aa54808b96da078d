from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from dynawatt.agent.metering import GONE, KEEP_S, NOBODY, EnergyKey, EnergyMeter
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


def test_series_of_gone_pods_end_after_they_were_scraped_and_their_joules_stay() -> None:
    meter = EnergyMeter()
    observe(meter, 0.0, A, now_s=0.0)
    observe(meter, 5.0, B, now_s=1.0)
    observe(meter, 6.0, B, now_s=500.0)
    assert totals(meter, 1.0 + KEEP_S) == {A: 5.0, B: 1.0}
    assert totals(meter, 2.0 + KEEP_S) == {GONE: 5.0, B: 1.0}


def test_what_is_idle_is_told_for_ever() -> None:
    meter = EnergyMeter()
    for counter_j, holder, now_s in [(0.0, NOBODY, 0.0), (7.0, A, 1.0), (9.0, A, 10 * KEEP_S)]:
        observe(meter, counter_j, holder, now_s)
    assert totals(meter, 10 * KEEP_S) == {NOBODY: 7.0, A: 2.0}


def test_a_pod_that_came_back_on_another_gpu_keeps_all_it_used() -> None:
    meter = EnergyMeter()
    for uuid, counter_j, holder, now_s in [
        ("GPU-0", 0.0, A, 0.0),
        ("GPU-0", 100.0, NOBODY, 1.0),
        ("GPU-1", 0.0, A, 1.0),
        ("GPU-1", 10.0, A, 2 * KEEP_S),
    ]:
        meter.observe(uuid=uuid, counter_j=counter_j, holder=holder, now_s=now_s)
    found = meter.totals_j(2 * KEEP_S)
    assert (found[EnergyKey("GPU-0", A)], found[EnergyKey("GPU-1", A)]) == (100.0, 10.0)


def test_gpus_are_apart() -> None:
    meter = EnergyMeter()
    for uuid, counters_j in (("GPU-0", (0.0, 3.0)), ("GPU-1", (100.0, 104.0))):
        for counter_j in counters_j:
            meter.observe(uuid=uuid, counter_j=counter_j, holder=A, now_s=0.0)
    assert meter.totals_j(0.0) == {EnergyKey("GPU-0", A): 3.0, EnergyKey("GPU-1", A): 4.0}


class Step(NamedTuple):
    """A GPU's counter moves, its driver may restart, and it may pass to another pod."""

    uuid: str
    used_j: float
    restarts: bool
    holder: PodKey
    pause_s: float


STEPS = st.builds(
    Step,
    uuid=st.sampled_from(["GPU-0", "GPU-1", "GPU-2"]),
    used_j=st.floats(0.0, 1e6),
    restarts=st.booleans(),
    holder=st.sampled_from([A, B, NOBODY]),
    pause_s=st.sampled_from([1.0, 3.7, KEEP_S, 2 * KEEP_S]),
)
EXACT_J = 1 / 1024


@given(st.lists(STEPS, min_size=1))
def test_a_node_is_exactly_the_sum_of_its_pods_and_idle_and_nothing_ever_falls(steps: Sequence[Step]) -> None:
    meter = EnergyMeter()
    counter_j: dict[str, float] = {}
    used_j: dict[str, float] = defaultdict(float)
    readings: dict[str, int] = defaultdict(int)
    now_s = before_j = 0.0
    before: dict[PodKey, float] = {}
    for step in steps:
        now_s += step.pause_s
        first = step.uuid not in counter_j
        restarts = step.restarts and counter_j.get(step.uuid, 0.0) > step.used_j
        counter_j[step.uuid] = step.used_j if restarts else counter_j.get(step.uuid, 0.0) + step.used_j
        used_j[step.uuid] += 0.0 if first else step.used_j
        readings[step.uuid] += 1
        meter.observe(uuid=step.uuid, counter_j=counter_j[step.uuid], holder=step.holder, now_s=now_s)

        found = meter.totals_j(now_s)
        node_j = sum(found.values())
        assert node_j == sum(reversed(found.values()))  # exactly, in whatever order
        assert node_j >= before_j
        for uuid, total_j in used_j.items():
            own_j = sum(value for key, value in found.items() if key.uuid == uuid)
            assert abs(own_j - total_j) <= readings[uuid] * (EXACT_J + 1e-9 * total_j)
        pods: dict[PodKey, float] = defaultdict(float)
        for key, value in found.items():
            pods[key.pod] += value
        assert all(value >= before[pod] for pod, value in pods.items() if pod in before)
        before_j, before = node_j, pods
