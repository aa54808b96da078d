import numpy as np
import pytest

from dynawatt.forecast.slots import SLOT_S, WEEK_SLOTS
from dynawatt.simulation.policies.pools_forecast import ClassForecast
from dynawatt.simulation.study import History

from .small_pools import by_class

WEEK_S = WEEK_SLOTS * SLOT_S


def week(first_rps, then_rps, first_slots):
    """A week that begins with some slots at one rate and has another one for the rest, all of class SS."""
    rates = np.full(WEEK_SLOTS, then_rps)
    rates[:first_slots] = first_rps
    return History(-WEEK_S, np.outer(rates * SLOT_S, by_class(SS=1)))


def seen(forecast, rate_rps, until_s, step_s=60.0):
    for now_s in np.arange(step_s, until_s + 1, step_s):
        forecast.observe(now_s, np.rint(by_class(SS=rate_rps) * now_s).astype(np.int64))


def test_it_expects_last_weeks_busiest_slot_before_anything_was_seen():
    forecast = ClassForecast(week(10.0, 20.0, 6), by_class())
    assert forecast.peak_rps(0.0, 1800.0)[0] == pytest.approx(10)
    assert forecast.peak_rps(0.0, 1801.0)[0] == pytest.approx(20)
    assert forecast.peak_rps(1800.0, 3600.0)[0] == pytest.approx(20)


def test_the_level_of_the_last_half_hour_scales_it():
    forecast = ClassForecast(week(10.0, 20.0, 6), by_class())
    seen(forecast, 11.0, 1800.0)
    assert forecast.peak_rps(1800.0, 3600.0)[0] == pytest.approx(22)


def test_what_is_longer_ago_does_not_count():
    forecast = ClassForecast(week(10.0, 10.0, 6), by_class())
    seen(forecast, 5.0, 1800.0)
    before = np.rint(by_class(SS=5.0) * 1800.0)
    for now_s in np.arange(1860.0, 3601.0, 60.0):
        forecast.observe(now_s, (before + by_class(SS=15.0) * (now_s - 1800.0)).astype(np.int64))
    assert forecast.peak_rps(3600.0, 3900.0)[0] == pytest.approx(15)


def test_a_second_week_has_the_same_template():
    forecast = ClassForecast(week(10.0, 20.0, 6), by_class())
    assert forecast.peak_rps(WEEK_S, WEEK_S + 300.0)[0] == pytest.approx(10)
    assert forecast.peak_rps(WEEK_S - 300.0, WEEK_S)[0] == pytest.approx(20)


def test_without_a_history_it_knows_the_peak_and_then_the_busiest_minutes_just_seen():
    forecast = ClassForecast(None, by_class(SS=50.0))
    assert forecast.peak_rps(0.0, 300.0)[0] == 50
    seen(forecast, 8.0, 600.0)
    assert forecast.peak_rps(600.0, 900.0)[0] == pytest.approx(8, rel=0.01)


def test_it_can_begin_anew():
    forecast = ClassForecast(None, by_class(SS=50.0))
    seen(forecast, 8.0, 600.0)
    forecast.forget()
    assert forecast.peak_rps(0.0, 300.0)[0] == 50


def test_an_empty_template_does_not_scale():
    forecast = ClassForecast(week(0.0, 20.0, 6), by_class())
    seen(forecast, 3.0, 1800.0)
    assert forecast.peak_rps(1800.0, 3600.0)[0] == pytest.approx(20)


def test_a_history_shorter_than_a_week_tells_nothing_of_other_times():
    forecast = ClassForecast(History(-600.0, np.tile(by_class(SS=3000.0), (2, 1))), by_class(SS=7.0))
    assert forecast.peak_rps(0.0, 300.0)[0] == 7
