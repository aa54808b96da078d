import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.forecast.slots import DAY_SLOTS, KEPT_SLOTS, WEEK_SLOTS, SlotHistory
from dynawatt.forecast.templates import KINDS, build_templates

FLAT, DAY, WEEK = range(len(KINDS))
DAYS = np.arange(WEEK_SLOTS) // DAY_SLOTS
RHYTHM = 1 + 0.5 * np.sin(2 * np.pi * np.arange(WEEK_SLOTS) / DAY_SLOTS)
WORKING_WEEK = RHYTHM * np.where(DAYS < 5, 1.0, 0.4)


def shapes(counts, start=0, left_out_day=None):
    history = SlotHistory()
    for slot, count in enumerate(counts, start):
        history.put(slot, count)
    return build_templates(history, left_out_day).shapes


def relative(shape):
    return shape / shape.mean()


def misfit(found, shape):
    """Mean relative error: a step is smoothed over, and counts little."""
    return np.abs(found / relative(shape) - 1).mean()


def test_of_nothing_all_are_flat():
    assert (shapes([]) == 1).all()


def test_one_day_is_the_shape_of_every_day():
    found = shapes(100 * RHYTHM[:DAY_SLOTS])
    for kind in (DAY, WEEK):
        assert found[kind] == pytest.approx(relative(RHYTHM), rel=0.01)


def test_weekends_are_told_from_weekdays():
    four_days = slice(3 * DAY_SLOTS, 7 * DAY_SLOTS)  # Thursday to Sunday
    found = shapes(100 * WORKING_WEEK[four_days], start=four_days.start)
    for kind in (DAY, WEEK):
        assert misfit(found[kind], WORKING_WEEK) < 0.01


def test_a_week_knows_each_of_its_days():
    by_day = RHYTHM * (1 + 0.1 * DAYS)
    found = shapes(100 * by_day)
    assert misfit(found[WEEK], by_day) < 0.01
    assert misfit(found[DAY], by_day) > 0.05


def test_growth_from_week_to_week_leaves_the_shape():
    growing = np.concatenate([WORKING_WEEK * 1.5**week for week in range(3)])
    found = shapes(100 * growing[: 2 * WEEK_SLOTS + 500])
    assert misfit(found[WEEK], WORKING_WEEK) < 0.01


@pytest.mark.parametrize("factor", [0.0, 10.0])
def test_an_hour_out_of_the_ordinary_hardly_shows(factor):
    counts = np.tile(100 * RHYTHM, 3)
    counts[WEEK_SLOTS + 1000 : WEEK_SLOTS + 1012] *= factor
    assert shapes(counts)[WEEK] == pytest.approx(relative(RHYTHM), rel=0.02)
    one_week = shapes(counts[WEEK_SLOTS : 2 * WEEK_SLOTS])[WEEK]
    hour = slice(1000, 1012)
    assert (one_week[hour] > 0.25 * relative(RHYTHM)[hour]).all()
    assert (one_week[hour] < 3.2 * relative(RHYTHM)[hour]).all()


def test_noise_is_smoothed_and_a_quiet_load_is_not():
    rng = np.random.default_rng(0)
    bursty = shapes(rng.gamma(20 * RHYTHM, 5))[WEEK]
    error = np.abs(bursty / relative(RHYTHM) - 1).mean()
    assert error < 0.08  # a single slot is off by 0.18
    steps = np.repeat([1.0, 2.0], WEEK_SLOTS // 2)
    assert np.abs(shapes(1e6 * steps)[WEEK] - relative(steps)).max() < 0.4  # only beside the step


def test_a_left_out_day_is_predicted_by_the_others():
    counts = 100 * RHYTHM.copy()
    counts[DAY_SLOTS : 2 * DAY_SLOTS] *= 2
    found = shapes(counts, left_out_day=1)
    assert found[DAY, DAY_SLOTS : 2 * DAY_SLOTS] == pytest.approx(found[DAY, :DAY_SLOTS])
    alone = 100 * RHYTHM.copy()
    alone[700] *= 2
    assert shapes(alone, left_out_day=2)[WEEK, 700] == pytest.approx(relative(RHYTHM)[700], rel=0.02)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.floats(0, 1e9) | st.just(float("nan")), max_size=600),
    start=st.integers(-KEPT_SLOTS, KEPT_SLOTS),
)
def test_every_shape_is_positive_and_finite(counts, start):
    found = shapes(counts, start)
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert found[FLAT] == pytest.approx(1)
    assert (found.mean(axis=1) < 1.01).all()


def test_the_ring_keeps_four_weeks():
    history = SlotHistory()
    for slot in range(KEPT_SLOTS + 10):
        history.put(slot, float(slot))
    assert history.last(3).tolist() == [KEPT_SLOTS + 7, KEPT_SLOTS + 8, KEPT_SLOTS + 9]
    assert history.weeks().min() == 10
    history.put(KEPT_SLOTS + 20, 5.0)
    assert np.isnan(history.last(11)[:10]).all()
    history.rewind(KEPT_SLOTS + 5)
    assert history.last(1) == KEPT_SLOTS + 4
    assert np.isnan(history.weeks()).sum() == 16
    history.put(100 * KEPT_SLOTS, 7.0)
    assert np.nansum(history.weeks()) == 7
