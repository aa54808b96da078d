from math import nan

from hypothesis import given
from hypothesis import strategies as st

from dynawatt.accounting.peak import WeekPeak
from dynawatt.forecast.slots import UNIX_MONDAY_S

START_S = UNIX_MONDAY_S + 2000 * 7 * 86400
WEEK_S = 7 * 86400


def fed(*rates_rps, step_s=300, start_s=START_S, peak=None):
    peak = peak or WeekPeak()
    for index, rate_rps in enumerate(rates_rps):
        peak.observe(start_s + index * step_s, rate_rps)
    return peak


def test_before_the_first_slot_ended_the_highest_rate_counts():
    assert WeekPeak().peak_rps == 0.0
    assert fed(3.0, 5.0, 4.0, step_s=10).peak_rps == 5.0


def test_a_short_burst_is_no_peak():
    burst = [2.0] * 15 + [50.0] + [2.0] * 15
    assert fed(*burst, step_s=10).peak_rps < 5.0


def test_the_highest_slot_of_a_week_is_remembered_and_then_forgotten():
    peak = fed(1.0, 9.0, 2.0, 2.0)
    assert peak.peak_rps == 9.0
    assert fed(2.0, 2.0, start_s=START_S + WEEK_S - 600, peak=peak).peak_rps == 9.0
    assert fed(2.0, 2.0, 2.0, 2.0, start_s=START_S + WEEK_S, peak=peak).peak_rps == 2.0


def test_what_was_learnt_counts_from_the_start():
    peak = WeekPeak()
    peak.learn(START_S - 1200, [300.0, nan, 2400.0, 600.0])
    assert peak.peak_rps == 8.0
    assert fed(3.0, 3.0, 3.0, peak=peak).peak_rps == 8.0
    assert fed(12.0, 12.0, 12.0, start_s=START_S + 900, peak=peak).peak_rps == 12.0


def test_a_clock_that_was_set_back_does_no_harm():
    peak = fed(1.0, 4.0, 1.0)
    fed(2.0, 2.0, start_s=START_S - 5000, peak=peak)
    assert fed(3.0, 3.0, start_s=START_S + 900, peak=peak).peak_rps == 4.0


@given(st.lists(st.floats(0.0, 1e3), min_size=1, max_size=50))
def test_it_is_the_highest_of_whole_slots(rates_rps):
    peak = fed(*rates_rps, 0.0)
    assert peak.peak_rps == max(rates_rps)
