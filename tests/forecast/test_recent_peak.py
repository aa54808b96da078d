from math import inf, nan, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.forecast.recent_peak import RecentPeakForecast

WINDOW_S = 60.0
rates = st.floats(0, 1000)


def observed(*samples, **options):
    forecast = RecentPeakForecast(**options)
    for now_s, rate_rps in samples:
        forecast.observe(float(now_s), rate_rps)
    return forecast


def every(step_s, rates_rps):
    return [(step_s * i, rate) for i, rate in enumerate(rates_rps)]


def test_nothing_is_known_before_the_first_observation():
    assert RecentPeakForecast().demand_rps(60, WINDOW_S) is None


def test_a_steady_rate_keeps_the_sampling_error_above_it():
    forecast = observed(*every(5, [9.0] * 10), sigmas=2.0)
    assert forecast.demand_rps(60, WINDOW_S) == pytest.approx(9 + 2 * sqrt(9 / WINDOW_S))
    assert observed((0, 0.0)).demand_rps(60, WINDOW_S) == 0


@given(
    values=st.lists(rates, min_size=1, max_size=60),
    lead_s=st.floats(0, 600),
    memory_s=st.none() | st.floats(0, 300),
    step_s=st.floats(0.5, 20),
)
def test_never_below_the_peak_that_is_remembered(values, lead_s, memory_s, step_s):
    samples = every(step_s, values)
    newest_s = samples[-1][0]
    remembered_s = 120.0 if memory_s is None else min(120.0, memory_s)
    peak_rps = max(rate for time_s, rate in samples if newest_s - time_s <= remembered_s)
    forecast = observed(*samples)
    found = forecast.demand_rps(lead_s, WINDOW_S, memory_s)
    assert found >= peak_rps
    assert found <= forecast.demand_rps(lead_s + 60, WINDOW_S, memory_s)
    assert found <= forecast.demand_rps(lead_s, WINDOW_S)


@given(factor=st.floats(0.5, 0.99))
def test_a_falling_rate_leaves_the_peak(factor):
    falling = [1000 * factor**i for i in range(6)]
    forecast = observed(*every(5, falling), sigmas=0.0)
    assert forecast.demand_rps(600, WINDOW_S) == 1000


def noise(mean_rps, span_s):
    """Standard error of a slope through Poisson arrivals."""
    return sqrt(12 * mean_rps / span_s**3)


@pytest.mark.parametrize("lead_s", [0, 40])
def test_a_rising_rate_is_led_by_the_lead_and_half_the_window(lead_s):
    forecast = observed(*every(5, [10 + 0.2 * 5 * i for i in range(7)]), sigmas=0.0)
    rise = 0.2 - noise(13, 30 + WINDOW_S)
    assert forecast.demand_rps(lead_s, WINDOW_S) == pytest.approx(16 + rise * (lead_s + WINDOW_S / 2))


def test_only_the_trend_window_makes_the_trend():
    samples = [*every(5, [50.0, 40.0, 30.0]), *[(30 + 5 * i, 10 + i) for i in range(7)]]
    rise = 0.2 - noise(13, 30 + WINDOW_S)
    found = observed(*samples, sigmas=0.0).demand_rps(400, WINDOW_S)
    assert found == pytest.approx(16 + rise * (400 + WINDOW_S / 2))


def test_a_rise_within_the_noise_is_not_followed():
    slope = 0.9 * noise(10, 30 + WINDOW_S)
    samples = every(5, [10 + slope * 5 * (i - 3) for i in range(7)])
    assert observed(*samples, sigmas=0.0).demand_rps(400, WINDOW_S) == samples[-1][1]


@pytest.mark.parametrize("samples", [[(0, 1.0), (5, 9.0)], [(5, 1.0), (5, 5.0), (5, 9.0)]])
def test_no_trend_from_too_little(samples):
    assert observed(*samples, sigmas=0.0).demand_rps(1000, WINDOW_S) == 9


def test_peaks_are_forgotten():
    samples = [(0, 90.0), (100, 10.0), (121, 10.0)]
    assert observed(*samples[:2], sigmas=0.0).demand_rps(0, WINDOW_S) == 90
    assert observed(*samples[:2], sigmas=0.0).demand_rps(0, WINDOW_S, memory_s=99.0) == 10
    assert observed(*samples, sigmas=0.0).demand_rps(0, WINDOW_S) == 10
    assert observed(*samples, sigmas=0.0, window_s=200.0).demand_rps(0, WINDOW_S) == 90


def test_memory_is_bounded_by_the_window():
    forecast = observed(*every(1, [1.0] * 1000))
    assert len(forecast._samples) == 121


@pytest.mark.parametrize("rate_rps", [nan, -0.1, -inf, inf])
def test_what_is_no_rate_is_refused_and_leaves_no_trace(rate_rps):
    forecast = observed((0, 3.0), sigmas=0.0)
    with pytest.raises(ValueError, match=r"rate_rps is .*: must be a number >= 0"):
        forecast.observe(1.0, rate_rps)
    assert forecast.demand_rps(0, WINDOW_S) == 3
