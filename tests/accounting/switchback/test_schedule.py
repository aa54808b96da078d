from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.switchback.schedule import CARRY_OVER_S, PERIOD_S, Schedule
from dynawatt.errors import InvalidInputError

NOW_S = st.floats(1.6e9, 2.2e9)
UIDS = ("6f1f0f43-9f53-4c6e-8d3b-1b7f7f2a1a01", "0c7d1f2e-2c52-4a5d-9a44-6f6f0f1c2b02", "svc-3")
START_S = 1_760_000_000.0
DAY_S = 86_400


def phases(schedule, days):
    """One per period."""
    first_s = schedule.at(START_S).start_s
    return [schedule.at(first_s + PERIOD_S * (n + 0.5)) for n in range(int(days * DAY_S / PERIOD_S))]


@pytest.mark.parametrize("uid", UIDS)
@pytest.mark.parametrize("percent", [1, 5, 10, 33, 50])
def test_the_clock_is_off_for_the_wanted_share_of_the_time(uid, percent):
    found = phases(Schedule(uid, percent), days=40)
    assert sum(phase.clock_off for phase in found) / len(found) == pytest.approx(percent / 100, abs=0.006)


def test_every_hour_has_its_share_to_within_one_period():
    by_hour = Counter(phase.pair // 6 for phase in phases(Schedule(UIDS[2], 20), days=20) if phase.clock_off)
    assert {by_hour[hour] for hour in sorted(by_hour)[1:-1]} == {2, 3}  # of 2.4


@pytest.mark.parametrize("percent", [7, 25, 50])
def test_each_pair_has_one_period_of_each_kind_in_either_order(percent):
    by_pair: dict[int, list[bool]] = {}
    for phase in phases(Schedule(UIDS[0], percent), days=30):
        if phase.pair is not None:
            by_pair.setdefault(phase.pair, []).append(phase.clock_off)
    orders = Counter(tuple(order) for order in by_pair.values() if len(order) == 2)
    assert set(orders) == {(True, False), (False, True)}
    assert orders[True, False] / orders.total() == pytest.approx(0.5, abs=0.05)


def test_at_half_the_time_every_pair_is_compared_and_at_none_nothing_is_off():
    assert all(phase.pair is not None for phase in phases(Schedule(UIDS[1], 50), days=2))
    assert all(phase.pair is None and not phase.clock_off for phase in phases(Schedule(UIDS[1], 0), days=2))


@given(now_s=NOW_S, uid=st.text(min_size=1, max_size=40), percent=st.integers(0, 50))
def test_nothing_is_remembered(now_s, uid, percent):
    phase = Schedule(uid, percent).at(now_s)
    assert phase == Schedule(uid, percent).at(now_s)
    assert phase.start_s <= now_s < phase.end_s
    assert phase.end_s - phase.start_s == PERIOD_S
    middle = Schedule(uid, percent).at((phase.start_s + phase.end_s) / 2)
    assert (middle.clock_off, middle.pair) == (phase.clock_off, phase.pair)


@given(now_s=NOW_S, uid=st.sampled_from(UIDS), percents=st.tuples(st.integers(0, 50), st.integers(0, 50)))
def test_a_larger_share_has_all_of_a_smaller_one(now_s, uid, percents):
    fewer, more = (Schedule(uid, percent).at(now_s) for percent in sorted(percents))
    assert fewer.clock_off <= more.clock_off
    assert fewer.pair in (None, more.pair)


def test_an_operator_of_another_version_goes_on_with_the_schedule():
    off = "".join(str(int(phase.clock_off)) for phase in phases(Schedule(UIDS[0], 30), days=1)[:48])
    assert off == "000010110000100001010100100100001100110000010010"


def test_services_do_not_switch_together():
    starts = {Schedule(f"svc-{number}", 10).at(START_S).start_s % PERIOD_S for number in range(50)}
    assert len(starts) == 50


def test_the_time_after_a_switch_does_not_count():
    found = [phase for phase in phases(Schedule(UIDS[0], 50), days=1) if phase.pair is not None]
    for phase in found:
        assert not phase.settled_since(phase.start_s + CARRY_OVER_S - 0.01)
        assert phase.settled_since(phase.start_s + CARRY_OVER_S)
    assert all(after.start_s == before.end_s for before, after in pairwise(found))
    outside = next(phase for phase in phases(Schedule(UIDS[0], 10), days=1) if phase.pair is None)
    assert not outside.settled_since(outside.end_s - 1)


@pytest.mark.parametrize("percent", [-1, 50.5, float("nan")])
def test_shares_that_cannot_be(percent):
    with pytest.raises(InvalidInputError, match=f"switchback of {percent} %: must be between 0 and 50"):
        Schedule("svc", percent)
