from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from dynawatt.agent.arrivals import ArrivalMeter
from dynawatt.governing.reading import PodReading
from dynawatt.workload.arrivals import dispersion

SPAN_S = 290
NOTHING = dict.fromkeys(PodReading._fields)


def reading(finished: float | None, running: float | None, waiting: float | None) -> PodReading:
    return PodReading(**(NOTHING | {"finished": finished, "running": running, "waiting": waiting}))


def measured(
    arrival_s: NDArray[np.float64], read_s: Sequence[float], *, stay_s: float = 3.0, slots: int = 8
) -> float | None:
    """The dispersion of requests that stay for a while each, ``slots`` of them running at most."""
    meter = ArrivalMeter()
    for now_s in read_s:
        arrived = int(np.searchsorted(arrival_s, now_s, side="right"))
        finished = int(np.searchsorted(arrival_s + stay_s, now_s, side="right"))
        running = min(slots, arrived - finished)
        meter.observe(reading(finished, running, arrived - finished - running), now_s)
    return meter.dispersion(read_s[-1])


def poisson(rate_rps: float, seed: int, *, batch: int = 1) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    times_s = np.sort(rng.uniform(0.0, SPAN_S, rng.poisson(rate_rps / batch * SPAN_S)))
    return np.repeat(times_s, batch)


EVERY_SECOND = np.arange(0.0, SPAN_S)


def late_and_missed(seed: int) -> NDArray[np.float64]:
    """Readings up to 0.2 s late, one in ten of them left out."""
    rng = np.random.default_rng(seed)
    times_s = EVERY_SECOND + rng.uniform(0.0, 0.2, len(EVERY_SECOND))
    return times_s[rng.uniform(size=len(times_s)) > 0.1]


@pytest.mark.parametrize("batch", [1, 4, 16])
@pytest.mark.parametrize("rate_rps", [2.0, 40.0])
@pytest.mark.parametrize("irregular", [False, True])
def test_poisson_is_1_and_batches_are_their_size(batch: int, rate_rps: float, irregular: bool) -> None:
    found = [
        measured(poisson(rate_rps, seed, batch=batch), late_and_missed(seed) if irregular else EVERY_SECOND)
        for seed in range(12)
    ]
    # The index of one stretch strays by sqrt(2 / 290 bins) and, for few batches, by another sqrt(1 / batches).
    error = batch * np.sqrt((2 / SPAN_S + batch / (rate_rps * SPAN_S)) / len(found))
    assert np.mean(found) == pytest.approx(batch, abs=4 * error)


def test_it_is_what_the_planner_means_by_dispersion() -> None:
    arrival_s = poisson(20.0, 1, batch=5)
    arrival_s = arrival_s[arrival_s > 0.0]
    offset_s = arrival_s[0]
    expected = dispersion(arrival_s - offset_s, 1.0)
    read_s = np.arange(0.0, np.floor(arrival_s[-1] - offset_s) + 1.0)
    assert measured(arrival_s - offset_s + 1e-9, read_s) == pytest.approx(expected, rel=0.02)


def test_readings_in_quick_succession_share_a_bin() -> None:
    arrival_s = poisson(20.0, 1, batch=5)
    twice_s = np.sort(np.concatenate([EVERY_SECOND, EVERY_SECOND[:-1] + 0.01]))
    assert measured(arrival_s, twice_s) == measured(arrival_s, EVERY_SECOND)


def test_steady_arrivals_have_none() -> None:
    assert measured(np.arange(0.1, SPAN_S, 0.2), EVERY_SECOND) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("rate_rps", "seconds"), [(0.05, SPAN_S), (50.0, 30), (0.0, SPAN_S)], ids=["rare", "just started", "idle"]
)
def test_too_few_arrivals_say_nothing(rate_rps: float, seconds: int) -> None:
    assert measured(poisson(rate_rps, 3), EVERY_SECOND[:seconds]) is None


def drive(meter: ArrivalMeter, counts: Sequence[int], *, start_s: float = 0.0, finished: int = 0) -> float:
    for index, count in enumerate(counts):
        finished += count
        meter.observe(reading(finished, 0, 0), start_s + index)
    return start_s + len(counts) - 1


def test_only_the_last_minutes_count() -> None:
    meter = ArrivalMeter()
    drive(meter, [0, 100] * 150)
    bursty = meter.dispersion(299.0)
    now_s = drive(meter, [5] * 301, start_s=300.0, finished=15_000)
    assert bursty is not None
    assert bursty > 40.0
    assert meter.dispersion(now_s) == 0.0
    assert meter.dispersion(now_s + 300.0) is None


@pytest.mark.parametrize("gap", [(None, 1, 1), (1, None, 1), (1, 1, float("nan")), (-1, 0, 0), (0, float("inf"), 0)])
def test_a_reading_without_all_numbers_is_made_up_for_by_the_next(gap: tuple[float | None, ...]) -> None:
    meter = ArrivalMeter()
    for second in range(120):
        meter.observe(reading(*gap) if second % 3 == 1 else reading(5 * second, 0, 0), float(second))
    assert meter.dispersion(120.0) == pytest.approx(0.0, abs=1e-9)


def test_a_restart_is_no_arrival() -> None:
    meter = ArrivalMeter()
    now_s = drive(meter, [5] * 100, finished=100_000)
    now_s = drive(meter, [5] * 100, start_s=now_s + 1.0)
    assert meter.dispersion(now_s) == pytest.approx(0.0, abs=1e-9)


def test_what_arrived_in_a_long_silence_is_no_burst() -> None:
    meter = ArrivalMeter()
    now_s = drive(meter, [5] * 100)
    now_s = drive(meter, [5] * 100, start_s=now_s + 60.0, finished=800)
    assert meter.dispersion(now_s) == pytest.approx(0.0, abs=1e-9)


def test_numbers_that_are_a_moment_apart_are_set_off() -> None:
    meter = ArrivalMeter()
    for second in range(201):  # two arrive each second; three of eight that left count as finished a reading late
        meter.observe(reading(2 * second, 5 if second % 4 == 3 else 8, 0), float(second))
    counts = [2, 2, 0, 4] * 50
    assert meter.dispersion(200.0) == pytest.approx(np.var(counts, ddof=1) / np.mean(counts))


def test_aborted_requests_do_not_swallow_arrivals_for_long() -> None:
    meter = ArrivalMeter()
    drive(meter, [0] * 60)
    meter.observe(reading(0, 50, 0), 60.0)
    meter.observe(reading(0, 0, 0), 61.0)  # all 50 gone, none finished
    meter.observe(reading(0, 0, 0), 62.0)
    now_s = drive(meter, [4] * 238, start_s=63.0)
    arrivals = 50 + 237 * 4  # the first of the 4s shows when it is counted
    squares = 50**2 + 237 * 16
    expected = squares / (arrivals / 300) / 299 - arrivals / 299
    assert meter.dispersion(now_s) == pytest.approx(expected, rel=0.02)
