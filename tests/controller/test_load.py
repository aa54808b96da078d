from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.controller.load import ServiceLoad, forecast_of

START_S = 1.7e9 + 120.0  # a Wednesday, two minutes into a slot


def watched(rates_rps, *, every_s=10.0, window_s=120.0, remember_s=300.0, **rest):
    load = ServiceLoad(window_s, remember_s, **rest)
    for index, rate_rps in enumerate(rates_rps):
        load.observe(START_S + index * every_s, rate_rps)
    return load, START_S + (len(rates_rps) - 1) * every_s


def test_nothing_is_known_before_the_first_observation():
    assert ServiceLoad(120.0, 300.0).demand(START_S, inf) is None


@pytest.mark.parametrize("time_lapse", [1.0, 30.0])
def test_a_steady_load_is_expected_to_stay(time_lapse):
    load, now_s = watched([8.0] * 300, every_s=10.0 / time_lapse, window_s=120.0 / time_lapse, time_lapse=time_lapse)
    demand = load.demand(now_s, inf)
    assert demand.slot_s == 300.0 / time_lapse
    assert demand.expected_rps == pytest.approx(np.full(24, 8.0), rel=0.05)
    assert 8.0 < demand.high_rps[0] < 12.0


class Counts:
    """In place of a forecast: what it is told."""

    def __init__(self):
        self.told = []

    def observe(self, start_s, requests, width_s):
        self.told.append((start_s, requests, width_s))


def test_what_overlaps_is_counted_once():
    # Windows of two minutes, looked at every ten seconds.
    counts = Counts()
    watched([8.0] * 300, _forecast=counts)
    starts_s, requests, widths_s = zip(*counts.told, strict=True)
    assert sum(requests) == pytest.approx(8.0 * (2990 + 120))
    ends_s = [start_s + width_s for start_s, width_s in zip(starts_s, widths_s, strict=True)]
    assert ends_s[:-1] == pytest.approx(starts_s[1:])


def test_a_gap_is_counted_no_further_back_than_the_rate_reaches():
    counts = Counts()
    load, now_s = watched([8.0] * 20, _forecast=counts)
    load.observe(now_s + 200.0, 3.0)
    assert counts.told[-1] == (now_s + 80.0, 360.0, 120.0)
    assert load.watched_s() == 390.0


def test_after_a_long_gap_or_a_clock_set_back_the_load_is_watched_anew():
    load, now_s = watched([8.0] * 20)
    assert load.watched_s() == 190.0
    load.observe(now_s + 1000.0, 1.0)
    assert load.watched_s() == 0.0
    load.observe(now_s + 1010.0, 1.0)
    assert load.watched_s() == 10.0
    load.observe(now_s, 1.0)
    assert load.watched_s() == 0.0


@given(st.lists(st.floats(0.0, 50.0), min_size=1, max_size=60), st.sampled_from([1.0, 30.0]))
def test_the_recent_peak_is_always_carried(rates_rps, time_lapse):
    load, now_s = watched(rates_rps, time_lapse=time_lapse)
    demand = load.demand(now_s, inf)
    assert load.present_rps == rates_rps[-1]
    assert demand.high_rps[0] >= max(rates_rps[-31:])  # of the last 300 s
    assert (demand.high_rps >= demand.expected_rps).all()


def test_the_peak_is_forgotten_in_time():
    load, now_s = watched([20.0] * 60 + [2.0] * 600)
    assert load.demand(now_s, inf).high_rps[0] < 5.0


@pytest.mark.parametrize("rate_rps", [float("nan"), float("inf"), -1.0])
def test_what_is_no_rate_is_refused(rate_rps):
    with pytest.raises(ValueError, match="requests"):
        ServiceLoad(120.0, 300.0).observe(START_S, rate_rps)


def test_more_than_can_be_carried_is_prepared_for_only_when_it_is_expected_or_was_seen():
    load, now_s = watched([8.0] * 60)
    free = load.demand(now_s, inf)
    assert free.high_rps.max() > 12.0
    capped = load.demand(now_s, 10.0)
    assert capped.high_rps.max() == 10.0
    assert (capped.expected_rps == free.expected_rps).all()
    overloaded = load.demand(now_s, 5.0)
    assert overloaded.high_rps[0] == pytest.approx(8.0, rel=0.05)
    assert (overloaded.high_rps[1:] == overloaded.expected_rps[1:]).all()


def test_what_came_before_counts_as_watched_as_far_back_as_all_is_known():
    load = ServiceLoad(window_s=60, remember_s=300)
    load.recall(0.0, np.array([600.0, np.nan, 600.0, 1200.0, 60.0, 60.0]), 60)
    assert load.watched_s() == 120  # from the end of the fourth slot on: the third may be known in part
    assert load.present_rps == 1
    assert load.demand(360.0, 1000.0).high_rps[0] >= 20


def test_nothing_that_was_counted_while_a_history_was_learnt_is_lost():
    history = np.full(288, 3000.0)
    told, at_once = (ServiceLoad(window_s=60, remember_s=300) for _ in range(2))
    at_once.go_on_with(forecast_of(0.0, history), 86400.0)
    told.recall(86100.0, np.full(5, 600.0), 60)  # lies before the end of the history, which knows it better
    for load in (told, at_once):
        for second in range(60, 900, 60):
            load.observe(86400.0 + second, 30.0)
    told.go_on_with(forecast_of(0.0, history), 86400.0)
    found, expected = (load.demand(87300.0, 1000.0).expected_rps for load in (told, at_once))
    assert found == pytest.approx(expected)


def test_too_little_is_no_history():
    assert forecast_of(0.0, np.array([300.0] * 11 + [np.nan] * 30)) is None
