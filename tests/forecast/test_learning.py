"""Levels, the weights of experts, and the detector of changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.forecast.changes import ChangeDetector
from dynawatt.forecast.experts import ExpertWeights
from dynawatt.forecast.levels import EXPERTS, HALF_LIVES_S, Levels
from dynawatt.forecast.slots import HORIZON_SLOTS, SLOT_S
from dynawatt.forecast.templates import KINDS

FLAT = np.ones(len(KINDS))
LEADS = np.arange(HORIZON_SLOTS)


def levels_after(requests, template=FLAT):
    levels = Levels()
    for count in requests:
        levels.add(count, template, SLOT_S)
    return levels


def by_memory(levels, slots=HORIZON_SLOTS):
    """Of the flat template: one row per half-life, then the trends; columns are slots."""
    return levels.ahead(np.ones((len(KINDS), slots))).reshape(len(KINDS), -1, slots)[0]


@given(count=st.floats(0, 1e9), template=st.floats(0.01, 10))
def test_a_steady_load_is_forecast_by_every_expert(count, template):
    found = levels_after([count] * 5, template * FLAT).ahead(np.full((len(KINDS), 3), template))
    assert found == pytest.approx(np.full((EXPERTS, 3), count))


def test_a_half_life_halves():
    levels = Levels()
    levels.add(100.0, FLAT, SLOT_S)
    levels.add(0.0, 0 * FLAT, HALF_LIVES_S[1])
    assert levels.requests[0, 1] == pytest.approx(50)


def test_a_level_falls_towards_what_came_last_the_faster_the_shorter_it_remembers():
    found = by_memory(levels_after([1000.0] * 100 + [500.0] * 6))[: len(HALF_LIVES_S), 0]
    assert (np.diff(found) > 0).all()
    assert found[0] < 520
    assert found[-1] > 800


def test_a_trend_goes_on_and_wears_off():
    trend = by_memory(levels_after(1000 + 10.0 * np.arange(300)))[len(HALF_LIVES_S)]
    assert trend[0] == pytest.approx(4000, rel=0.01)
    assert np.diff(trend)[0] == pytest.approx(8, rel=0.1)
    assert np.diff(trend)[-1] < 1


def test_a_fall_ends_at_nothing():
    assert (by_memory(levels_after([1e6, 1e5, 10.0, 0.0])) >= 0).all()


def test_loosened_levels_are_the_same_and_follow_sooner():
    levels = levels_after([1000.0] * 500)
    before = by_memory(levels)
    levels.loosen(3.0)
    assert by_memory(levels) == pytest.approx(before)
    levels.add(2000.0, FLAT, SLOT_S)
    assert by_memory(levels)[len(HALF_LIVES_S) - 1, 0] > 1200


def test_the_best_expert_is_believed_at_the_lead_where_it_is():
    weights = ExpertWeights()
    forecasts = np.full((EXPERTS, HORIZON_SLOTS), 400.0)
    forecasts[3, :12] = forecasts[5, 12:] = 105.0
    told = forecasts.copy()
    for _ in range(30):
        weights.learn(told, 100.0)
    found = weights.combine(forecasts, LEADS)
    assert found == pytest.approx(np.full(HORIZON_SLOTS, 105), rel=0.01)


def test_with_nothing_learnt_all_count_alike():
    forecasts = np.arange(EXPERTS * HORIZON_SLOTS, dtype=float).reshape(EXPERTS, HORIZON_SLOTS)
    weights = ExpertWeights()
    weights.learn(np.full((EXPERTS, HORIZON_SLOTS), np.nan), 100.0)
    assert weights.combine(forecasts, LEADS) == pytest.approx(forecasts.mean(axis=0))


def test_another_expert_is_believed_after_a_change():
    weights = ExpertWeights()
    one, other = np.full((EXPERTS, HORIZON_SLOTS), 300.0), np.full((EXPERTS, HORIZON_SLOTS), 300.0)
    one[0], one[1] = 100.0, 120.0
    other[0], other[1] = 150.0, 101.0
    for _ in range(200):
        weights.learn(one, 100.0)
    for _ in range(60):
        weights.learn(other, 100.0)
    assert weights.combine(other, LEADS) == pytest.approx(np.full(HORIZON_SLOTS, 101), rel=0.05)


def fed(scores, width_s=60.0, requests=10.0):
    detector = ChangeDetector()
    return [detector.add(score, requests, FLAT, width_s) for score in scores]


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_change_is_told_with_what_came_since(direction):
    found = fed([0.5, -0.5, 0.0, *[direction * 4.0] * 4])
    assert found[:6] == [None] * 6
    requests, expected = found[6]
    assert requests == 40
    assert expected.tolist() == [4.0] * len(KINDS)


def test_noise_is_no_change():
    noise = np.random.default_rng(0).standard_normal(20_000)
    assert not any(fed(noise.tolist()))


def test_a_surprise_of_seconds_is_none():
    assert not any(fed([50.0, *[-1.0] * 11], width_s=10.0)[:11])
    assert fed([50.0] * 12, width_s=10.0)[11] is not None


def test_after_a_change_it_starts_anew():
    detector = ChangeDetector()
    assert detector.add(20.0, 10.0, FLAT, SLOT_S) is not None
    assert detector.add(2.0, 10.0, FLAT, SLOT_S) is None
    assert detector.add(12.0, 30.0, FLAT, SLOT_S)[0] == 40
