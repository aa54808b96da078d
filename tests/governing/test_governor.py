from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.governing.governor import BUDGET_WINDOW_S, BURN_WINDOW_S, CLEAN_S, LOAD_WINDOW_S, ClockGovernor
from dynawatt.governing.reading import PodReading

from .pods import CEILING_MHZ, FLOOR_MHZ, ROWS, Pod, clocks, table

SETTLED = int(LOAD_WINDOW_S + CLEAN_S + 2 * len(ROWS))
rates = st.floats(0.0, 20.0)
unknown = st.sampled_from([None, float("nan"), float("inf"), -1.0])


def governor(floor_mhz=FLOOR_MHZ, ceiling_mhz=CEILING_MHZ, **changes):
    return ClockGovernor(table(**changes), floor_mhz, ceiling_mhz)


def settled(rate_rps, **reading):
    """A governor after minutes of a steady load, and its pod."""
    it, pod = governor(), Pod()
    clocks(it, pod, SETTLED, rate_rps, **reading)
    return it, pod


@pytest.mark.parametrize(
    ("rate_rps", "reading", "expected"),
    [
        (0.0, {}, 800),
        (0.9, {}, 800),
        (2.0, {}, 1200),
        (5.0, {}, 1600),
        (7.0, {}, 1980),
        (50.0, {}, 1980),
        (0.5, {"running": 50}, 1200),
        (0.5, {"running": 101}, 1980),
        (0.5, {"kv_usage": 0.2}, 1600),  # as many tokens as 80 requests of mean length
        (0.5, {"kv_usage": 0.99}, 1980),
        (0.5, {"waiting": 5}, 1200),  # 5000 tokens within 0.5 s
        (0.5, {"waiting": 50}, 1980),
        (0.9, {"prompt_tokens": 5000.0}, 1600),  # 4.5 req/s of mean length
        (0.9, {"prompt_tokens": 1200.0}, 800),  # which may be chance
    ],
)
def test_the_lowest_clock_that_suffices(rate_rps, reading, expected):
    assert settled(rate_rps, **reading)[0].clock_mhz == expected


def test_it_begins_at_the_ceiling_until_the_load_is_known():
    it, pod = governor(), Pod()
    assert it.clock_mhz == CEILING_MHZ
    assert set(clocks(it, pod, int(BURN_WINDOW_S), 0.5)) == {CEILING_MHZ}


def test_down_is_one_row_per_step_after_clean_windows():
    it, pod = settled(7.0)
    found = clocks(it, pod, SETTLED, 0.0)
    assert found[int(CLEAN_S) - 1] == CEILING_MHZ
    steps = [clock for clock, before in zip(found[1:], found, strict=False) if clock != before]
    assert steps == [1600, 1200, 800]


def test_a_burst_is_met_with_clock_within_seconds():
    it, pod = settled(2.0)
    found = clocks(it, pod, 5, 12.0)
    assert found[-1] >= 1600


@pytest.mark.parametrize("late", [{"late": 3.0}, {"late_gaps": 15.0}])
def test_a_breach_gives_the_ceiling_in_one_step_and_for_clean_windows(late):
    it, pod = settled(2.0)
    assert clocks(it, pod, 1, 2.0, **late) == [CEILING_MHZ]
    assert set(clocks(it, pod, int(BURN_WINDOW_S + CLEAN_S) - 1, 2.0)) == {CEILING_MHZ}
    assert clocks(it, pod, SETTLED, 2.0)[-1] == 1200


@pytest.mark.parametrize("late", [{"late": 2.0}, {"late_gaps": 2.0}])
def test_single_violations_change_nothing(late):
    it, pod = settled(2.0)
    assert clocks(it, pod, 1, 2.0, **late) == [1200]


@pytest.mark.parametrize(("late", "expected"), [(0.02, 1200), (0.05, 1600)])
def test_a_budget_overspent_slowly_is_won_back_with_a_reserve(late, expected):
    it, pod = settled(2.8)
    assert clocks(it, pod, int(BUDGET_WINDOW_S), 2.8, late=late)[-1] == expected
    assert clocks(it, pod, int(BUDGET_WINDOW_S) + SETTLED, 2.8)[-1] == 1200


def test_first_tokens_that_cannot_be_judged_are_not():
    it, pod = governor(judges_ttft=False), Pod()
    assert clocks(it, pod, SETTLED, 2.0, late=1.0)[-1] == 1200


@given(rate_rps=rates, running=st.integers(0, 200), waiting=st.integers(0, 40), kv_usage=st.floats(0, 1))
def test_a_steady_load_settles_on_one_clock(rate_rps, running, waiting, kv_usage):
    it, pod = settled(rate_rps, running=running, waiting=waiting, kv_usage=kv_usage)
    assert len(set(clocks(it, pod, 300, rate_rps, running=running, waiting=waiting, kv_usage=kv_usage))) == 1


@given(capacity_rps=st.sampled_from([row.load_rps for row in ROWS]), nearly=st.floats(0.99, 1.01))
def test_whole_requests_at_a_steady_rate_do_not_make_it_swing(capacity_rps, nearly):
    it, pod, rate_rps = governor(), Pod(), capacity_rps * nearly
    found, sent = [], 0
    for second in range(1, SETTLED + 600):
        due = int(rate_rps * second) - sent
        sent += due
        found.append(it.step(pod.now_s, pod.second(due)))
    after = found[SETTLED:]
    assert sum(clock != before for clock, before in zip(after[1:], after, strict=False)) <= 1


loads = st.lists(
    st.tuples(st.floats(0, 15), st.floats(0, 5), st.integers(0, 150), st.floats(0, 1)),
    min_size=1,
    max_size=8,
)


@given(load=loads, seconds=st.integers(5, 60), queue=st.integers(0, 60))
def test_more_load_never_gives_a_lower_clock(load, seconds, queue):
    low, high, low_pod, high_pod = governor(), governor(), Pod(), Pod()
    for rate_rps, more_rps, running, kv_usage in load:
        for _ in range(seconds):
            lower = low.step(low_pod.now_s, low_pod.second(rate_rps, running=running))
            # The queue is there from the beginning: one that came and went would be arrivals at another time.
            reading = high_pod.second(rate_rps + more_rps, running=running, waiting=queue)
            higher = high.step(high_pod.now_s, reading._replace(kv_usage=max(0.04, kv_usage)))
            assert higher >= lower


@given(
    load=loads,
    floor_mhz=st.integers(500, 2000),
    span_mhz=st.integers(0, 800),
    late=st.lists(st.floats(0, 30), max_size=8),
)
def test_floor_and_ceiling_are_always_kept(load, floor_mhz, span_mhz, late):
    it, pod = governor(floor_mhz, floor_mhz + span_mhz), Pod()
    for index, (rate_rps, waiting, running, kv_usage) in enumerate(load):
        misses = late[index] if index < len(late) else 0.0
        for _ in range(25):
            reading = pod.second(rate_rps, late=misses, running=running, waiting=waiting, kv_usage=kv_usage)
            assert floor_mhz <= it.step(pod.now_s, reading) <= floor_mhz + span_mhz


@given(rate_rps=rates, field=st.sampled_from(PodReading._fields), value=unknown, load=loads)
def test_a_reading_with_something_unknown_holds_the_clock(rate_rps, field, value, load):
    it, pod = settled(rate_rps)
    before = it.clock_mhz
    for other_rps, *_ in load:
        reading = pod.second(other_rps, late=100.0, waiting=50)._replace(**{field: value})
        assert it.step(pod.now_s, reading) == before


@given(rate_rps=rates, back_s=st.floats(0, 1000) | st.just(float("nan")))
def test_time_that_does_not_go_on_is_ignored(rate_rps, back_s):
    it, pod = settled(rate_rps)
    before, now_s, reading = it.clock_mhz, pod.now_s, pod.second(100.0, waiting=100)
    assert it.step(now_s - 1.0 - back_s, reading) == before
    # The same a second later is as if nothing had been.
    assert it.step(now_s, reading) == CEILING_MHZ


def test_a_first_reading_without_a_time_is_no_first_reading():
    it, pod = governor(), Pod()
    it.step(float("nan"), pod.second(0.5))
    assert clocks(it, pod, SETTLED, 0.5)[-1] == FLOOR_MHZ


@given(rate_rps=st.floats(0.1, 2.9))
def test_a_restarted_pod_gets_the_ceiling_until_its_load_is_known(rate_rps):
    it, pod = settled(rate_rps)
    fresh = Pod()
    fresh.now_s = pod.now_s
    assert set(clocks(it, fresh, int(BURN_WINDOW_S), rate_rps)) == {CEILING_MHZ}
    assert clocks(it, fresh, SETTLED, rate_rps)[-1] == settled(rate_rps)[0].clock_mhz


def test_after_a_gap_in_the_readings_the_mean_over_the_gap_counts():
    it, pod = settled(0.5)
    for _ in range(100):
        pod.second(5.0)
    assert it.step(pod.now_s, pod.second(5.0)) == 1600


def test_a_claim_of_one_clock_is_that_clock():
    it, pod = governor(1200, 1200), Pod()
    assert set(clocks(it, pod, 100, 0.5)) == {1200}


def test_the_table_is_not_shared_state():
    shared = table()
    first, second = ClockGovernor(shared, 800, 1980), ClockGovernor(replace(shared), 800, 1980)
    clocks(first, Pod(), SETTLED, 0.5)
    assert (first.clock_mhz, second.clock_mhz) == (800, 1980)
