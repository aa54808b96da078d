from itertools import pairwise
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.forecast.rate import RateForecast
from dynawatt.forecast.slots import DAY_SLOTS, HORIZON_SLOTS, SLOT_S, WEEK_SLOTS, Calendar

LEVELS = np.array([0.001, 0.025, 0.1, 0.5, 0.9, 0.95, 0.975, 0.999])
MEDIAN = 3
FROM_ZERO = Calendar(0.0)
counts = st.floats(0, 1e9) | st.integers(0, 20).map(float)


def after(requests, start=0, calendar=FROM_ZERO):
    """A forecast that has seen these counts, from slot ``start`` on; NaN is a gap."""
    forecast = RateForecast(calendar)
    feed(forecast, requests, start)
    return forecast


def feed(forecast, requests, start=0):
    for slot, count in enumerate(requests, start):
        if not np.isnan(count):
            assert forecast.observe(slot * SLOT_S, float(count))


def ahead(forecast, slot, q=LEVELS):
    return SLOT_S * forecast.quantile_rps(slot * SLOT_S, q)


def daily(slots, mean=6000.0, depth=0.6):
    return mean * (1 + depth * np.sin(2 * np.pi * np.asarray(slots) / DAY_SLOTS))


def noisy(mean, seed, dispersion=1.0):
    """Counts with this variance over mean."""
    return np.random.default_rng(seed).gamma(np.asarray(mean) / dispersion, dispersion)


def covered(forecast, requests, start):
    """Whether each slot lay in the 95 % band forecast for it, shape (slots, leads); it learns on the way."""
    found = []
    for slot, count in enumerate(requests, start):
        low, high = ahead(forecast, slot, np.array([0.025, 0.975]))
        came = requests[slot - start : slot - start + HORIZON_SLOTS]
        inside = np.full(HORIZON_SLOTS, nan)
        inside[: len(came)] = (low[: len(came)] <= came) & (came <= high[: len(came)])
        found.append(inside)
        forecast.observe(slot * SLOT_S, float(count))
    return np.array(found)


def test_nothing_is_known_before_the_first_observation():
    assert RateForecast().quantile_rps(0.0, 0.5) is None
    assert RateForecast().band(0.0) is None


@settings(max_examples=40, deadline=None)
@given(requests=st.lists(counts | st.just(nan), min_size=1, max_size=50).filter(lambda each: not np.isnan(each).all()))
def test_quantiles_are_ordered_finite_and_not_negative(requests):
    found = ahead(after(requests), len(requests))
    assert found.shape == (len(LEVELS), HORIZON_SLOTS)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found, axis=0) >= 0).all()


@settings(max_examples=8, deadline=None)
@given(count=st.floats(0, 1e6), slots=st.integers(250, 300))
def test_a_constant_load_is_forecast_as_constant(count, slots):
    found = ahead(after([count] * slots), slots)
    assert found[MEDIAN] == pytest.approx(count, rel=0.01, abs=0.1)
    # What is left of the assumption that counts are Poisson and levels wander.
    spread = np.sqrt(count) + 0.1 * count + 1
    assert (found[1:-1] >= count - spread).all()
    assert (found[1:-1] <= count + spread).all()


@settings(max_examples=10, deadline=None)
@given(factor=st.floats(2, 1000), seed=st.integers(0, 99))
def test_a_load_times_k_has_quantiles_times_k(factor, seed):
    requests = noisy(daily(range(90), mean=1e6), seed, dispersion=1e4)
    found = ahead(after(requests), len(requests))
    assert ahead(after(factor * requests), len(requests)) == pytest.approx(factor * found, rel=0.02)


def test_a_history_tells_of_the_morning_before_it_comes():
    forecast = RateForecast(FROM_ZERO)
    forecast.learn(0.0, noisy(0.9 * daily(range(WEEK_SLOTS)), 1))
    feed(forecast, noisy(daily(range(WEEK_SLOTS, WEEK_SLOTS + 12)), 2), WEEK_SLOTS)
    coming = daily(np.arange(WEEK_SLOTS + 12, WEEK_SLOTS + 12 + HORIZON_SLOTS))
    assert ahead(forecast, WEEK_SLOTS + 12)[MEDIAN] == pytest.approx(coming, rel=0.04)


@pytest.mark.parametrize("width_s", [60.0, 3600.0])
def test_a_history_may_have_any_width_and_gaps(width_s):
    each = width_s / SLOT_S
    times = (np.arange(int(WEEK_SLOTS / each)) + 0.5) * each
    history = each * daily(times)
    history[10:20] = nan
    forecast = RateForecast(FROM_ZERO)
    forecast.learn(0.0, history, width_s)
    coming = daily(np.arange(WEEK_SLOTS, WEEK_SLOTS + HORIZON_SLOTS))
    assert ahead(forecast, WEEK_SLOTS)[MEDIAN] == pytest.approx(coming, rel=0.1)


@pytest.mark.parametrize("level", [0.9, 1.1])
def test_the_first_forecast_after_a_history_allows_for_another_level(level):
    forecast = RateForecast(FROM_ZERO)
    forecast.learn(0.0, noisy(level * daily(range(WEEK_SLOTS)), 1))
    coming = daily(np.arange(WEEK_SLOTS, WEEK_SLOTS + HORIZON_SLOTS))
    low, high = ahead(forecast, WEEK_SLOTS, np.array([0.025, 0.975]))
    assert (low < coming).all()
    assert (coming < high).all()
    width = high - low
    feed(forecast, noisy(daily(range(WEEK_SLOTS, WEEK_SLOTS + 3)), 2), WEEK_SLOTS)
    low, high = ahead(forecast, WEEK_SLOTS + 3, np.array([0.025, 0.975]))
    assert (high - low).mean() < 0.5 * width.mean()


@pytest.mark.parametrize("dispersion", [1.0, 100.0])
def test_the_band_covers_after_a_history(dispersion):
    forecast = RateForecast(FROM_ZERO)
    forecast.learn(0.0, noisy(0.9 * daily(range(WEEK_SLOTS)), 1, dispersion))
    week = noisy(daily(range(WEEK_SLOTS, WEEK_SLOTS + 2 * DAY_SLOTS)), 2, dispersion)
    inside = covered(forecast, week, WEEK_SLOTS)
    assert 0.90 < np.nanmean(inside) < 0.99
    assert np.nanmean(inside[:, 0]) > 0.9
    assert np.nanmean(inside[:, -1]) > 0.9


def test_noise_that_is_known_elsewhere_is_left_out():
    forecast = RateForecast(FROM_ZERO)
    forecast.learn(0.0, noisy(daily(range(WEEK_SLOTS)), 1, 100.0))
    at_s = WEEK_SLOTS * SLOT_S
    whole, part, none = (forecast.quantile_rps(at_s, LEVELS, known_dispersion=each) for each in (0.0, 50.0, 1e6))
    width = [(each[-1] - each[0]).mean() for each in (whole, part, none)]
    assert width[0] > 1.1 * width[1] > 1.1**2 * width[2] > 0
    assert none[MEDIAN] == pytest.approx(whole[MEDIAN], rel=0.02)
    assert (whole == forecast.quantile_rps(at_s, LEVELS)).all()


RECOVERS_IN = 6
"""Slots after a change of level by half, from which on new forecasts cover as they should."""


@pytest.mark.parametrize("factor", [0.5, 1.5])
@pytest.mark.parametrize("dispersion", [1.0, 50.0])
def test_coverage_recovers_after_a_level_shift(factor, dispersion):
    forecast = RateForecast(FROM_ZERO)
    forecast.learn(0.0, noisy(daily(range(WEEK_SLOTS)), 1, dispersion))
    feed(forecast, noisy(daily(range(WEEK_SLOTS, WEEK_SLOTS + 48)), 2, dispersion), WEEK_SLOTS)
    start = WEEK_SLOTS + 48
    shifted = noisy(factor * daily(range(start, start + 120)), 3, dispersion)
    inside = covered(forecast, shifted, start)
    assert np.nanmean(inside[0]) < 0.5  # nobody can know
    assert np.nanmean(inside[RECOVERS_IN:]) > 0.92


def test_a_shift_is_followed_at_all_leads_within_two_slots():
    forecast = after([1000.0] * 100)
    feed(forecast, [1500.0] * 2, 100)
    assert ahead(forecast, 102)[MEDIAN] == pytest.approx(1500, rel=0.02)


def test_minutes_are_enough_to_follow_a_shift():
    forecast = after(noisy([3000.0] * 100, 1))
    for minute in range(3):
        forecast.observe(100 * SLOT_S + 60 * minute, 2 * 3000 / 5, 60.0)
    assert ahead(forecast, 100)[MEDIAN] == pytest.approx(6000, rel=0.05)


def test_a_burst_of_seconds_moves_no_level():
    forecast = after(noisy([3000.0] * 100, 1))
    for second in range(0, 90, 10):
        forecast.observe(100 * SLOT_S + second, 1000.0 if second == 30 else 100.0, 10.0)
    # The flat level of the last minutes has its share in the forecast; a restart would take it far beyond.
    assert (ahead(forecast, 100)[MEDIAN] < 1.25 * 3000).all()


def test_a_scale_up_from_nothing():
    forecast = after([0.0] * 50 + [5000.0] * 3)
    assert ahead(forecast, 53)[MEDIAN] == pytest.approx(5000, rel=0.02)


def test_a_steady_rise_is_followed_beyond_the_last_count():
    forecast = after(1000.0 + 50 * np.arange(60))
    found = ahead(forecast, 60)[MEDIAN]
    assert found[:10] == pytest.approx(1000 + 50 * np.arange(60, 70), rel=0.05)


def test_a_service_never_used_is_forecast_as_that():
    found = ahead(after([0.0] * DAY_SLOTS), DAY_SLOTS)
    assert (found[MEDIAN] == 0).all()
    assert (found[-1] <= 3).all()
    silent = RateForecast(FROM_ZERO)
    silent.learn(0.0, np.zeros(WEEK_SLOTS))
    feed(silent, [0.0, 100.0, 100.0, 100.0], WEEK_SLOTS)
    assert ahead(silent, WEEK_SLOTS + 4)[MEDIAN] == pytest.approx(100, rel=0.1)


def test_the_band_is_wider_the_longer_nothing_was_observed():
    forecast = after(noisy([3000.0] * 100, 1, dispersion=30))
    widths = [np.subtract(*forecast.band(slot * SLOT_S)[::-1]).max() for slot in (100, 130, 200, 400)]
    assert widths == sorted(widths)
    assert widths[-1] > 1.5 * widths[0]


def test_gaps_leave_the_forecast_where_it_was():
    whole = noisy(daily(range(3 * DAY_SLOTS)), 1)
    holes = whole.copy()
    holes[400:420] = holes[600:660] = nan
    coming = daily(np.arange(3 * DAY_SLOTS, 3 * DAY_SLOTS + HORIZON_SLOTS))
    assert ahead(after(holes), 3 * DAY_SLOTS)[MEDIAN] == pytest.approx(coming, rel=0.05)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.floats(0.05, 0.95), max_size=3), seed=st.integers(0, 99))
def test_observations_may_be_cut_anywhere(cuts, seed):
    requests = noisy([400.0] * 20, seed)
    whole, parts = after(requests), RateForecast(FROM_ZERO)
    bounds = [0.0, *sorted(cuts), 1.0]
    for slot, count in enumerate(requests.tolist()):
        for start, end in pairwise(bounds):
            if end - start > 0.01:
                parts.observe((slot + start) * SLOT_S, count * (end - start), (end - start) * SLOT_S)
    assert ahead(parts, 20)[MEDIAN] == pytest.approx(ahead(whole, 20)[MEDIAN], rel=0.15)
    assert parts._history.last(20) == pytest.approx(whole._history.last(20), rel=0.05)


@pytest.mark.parametrize("requests", [nan, -1.0, inf])
def test_what_is_no_count_is_refused_and_leaves_no_trace(requests):
    forecast = after([100.0] * 10)
    before = ahead(forecast, 10)
    with pytest.raises(ValueError, match="requests is"):
        forecast.observe(10 * SLOT_S, requests)
    assert (ahead(forecast, 10) == before).all()


@pytest.mark.parametrize(("start_s", "width_s"), [(nan, 300), (1.7e12, 300), (0, 0), (0, -5), (0, nan), (0, 1e6)])
def test_what_is_no_time_is_refused(start_s, width_s):
    with pytest.raises(ValueError, match="_s is"):
        RateForecast().observe(start_s, 1.0, width_s)


@pytest.mark.parametrize("q", [0.0, 1.0, nan, -0.1, 95])
def test_what_is_no_probability_is_refused(q):
    with pytest.raises(ValueError, match="q is"):
        after([1.0]).quantile_rps(0.0, q)
    with pytest.raises(ValueError, match="now_s is"):
        after([1.0]).quantile_rps(nan, 0.5)


@pytest.mark.parametrize("history", [[-1.0], [inf], [], [[1.0]]])
def test_what_is_no_history_is_refused(history):
    forecast = RateForecast()
    with pytest.raises(ValueError, match="requests of a history"):
        forecast.learn(0.0, np.array(history))
    assert forecast.quantile_rps(0.0, 0.5) is None


def test_a_history_after_an_observation_is_refused():
    with pytest.raises(ValueError, match="before the first observation"):
        after([1.0]).learn(0.0, np.ones(10))


def test_what_was_counted_is_not_counted_again():
    forecast = after([100.0] * 10)
    before = ahead(forecast, 10)
    assert not forecast.observe(8 * SLOT_S, 900.0)
    assert (ahead(forecast, 10) == before).all()
    assert forecast.observe(9 * SLOT_S, 200.0, 2 * SLOT_S)  # half of it is new
    assert forecast._history.last(2).tolist() == [100, 100]


def test_a_clock_that_was_set_back_is_believed_the_third_time():
    forecast = after([100.0] * 50, start=1000)
    assert not forecast.observe(300 * SLOT_S, 100.0)
    assert not forecast.observe(301 * SLOT_S, 100.0)
    assert forecast.observe(302 * SLOT_S, 300.0)
    assert forecast.observe(303 * SLOT_S, 300.0)
    assert np.isfinite(ahead(forecast, 304)).all()
    assert ahead(forecast, 304)[MEDIAN] == pytest.approx(300, rel=0.1)
    kept = forecast._history.last(10)
    assert kept[-2:].tolist() == [300, 300]


@settings(max_examples=20, deadline=None)
@given(times=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(1, 5000), st.floats(0, 1e5)), min_size=1, max_size=40))
def test_no_order_of_times_breaks_it(times):
    forecast = RateForecast()
    for start_s, width_s, requests in times:
        forecast.observe(start_s, requests, width_s)
    found = forecast.quantile_rps(times[-1][0], LEVELS)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


def test_a_restored_state_goes_on_alike():
    requests = noisy(daily(range(400)), 1)
    one = after(requests[:320])
    one.observe(320 * SLOT_S, 10.0, 100.0)
    state = {name: np.array(array.tolist()) for name, array in one.state().items()}  # as JSON would have it
    other = RateForecast(FROM_ZERO)
    other.restore(state)
    for forecast in (one, other):
        feed(forecast, requests[321:], 321)
    assert (ahead(one, 400) == ahead(other, 400)).all()


def test_a_state_is_a_copy():
    forecast = after([100.0] * 5)
    state = forecast.state()
    saved = {name: array.copy() for name, array in state.items()}
    feed(forecast, [900.0] * 5, 5)
    assert all(np.array_equal(state[name], saved[name], equal_nan=True) for name in saved)


def test_a_state_of_another_version_changes_nothing():
    forecast, state = after([100.0] * 5), after([200.0] * 5).state()
    before = ahead(forecast, 5)
    for broken in (state | {"version": np.array([0.5])}, {}, {**state, "levels.requests": np.zeros(3)}):
        with pytest.raises(ValueError, match="saved state has"):
            forecast.restore(broken)
    assert (ahead(forecast, 5) == before).all()
