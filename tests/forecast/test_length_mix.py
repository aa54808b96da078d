from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.forecast.length_mix import MixForecast
from dynawatt.forecast.slots import DAY_SLOTS, SLOT_S, WEEK_SLOTS, Calendar
from dynawatt.workload.mix import LengthMix

FROM_ZERO = Calendar(0.0)
HOUR_SLOTS = 12


def mix(mean_input, mean_output, seed=0, size=300):
    rng = np.random.default_rng(seed)
    inputs = 1 + rng.gamma(2, (mean_input - 1) / 2, size).astype(np.int64)
    return LengthMix(inputs, 1 + rng.gamma(2, (mean_output - 1) / 2, size).astype(np.int64))


def after(mixes, start=0, requests=100.0):
    forecast = MixForecast(FROM_ZERO)
    for slot, each in enumerate(mixes, start):
        assert forecast.observe(slot * SLOT_S, each, requests)
    return forecast


def office_hours(slot):
    """Long prompts from 8 to 18 o'clock."""
    return mix(4000 if 8 <= slot % DAY_SLOTS / HOUR_SLOTS < 18 else 500, 200, seed=slot)


def test_with_nothing_seen_it_is_what_was_assumed():
    assert MixForecast().mix(0.0) is None
    assert MixForecast().mean_tokens(0.0, 0.0, 0.5) is None
    assumed = mix(1000, 100)
    found = MixForecast(assumed=assumed).mix(0.0, size=300)
    assert found.input_tokens.tolist() == assumed.input_tokens.tolist()


def test_it_follows_a_change_within_an_hour():
    forecast = after([mix(500, 100, seed) for seed in range(30)] + [mix(4000, 30, seed) for seed in range(13)])
    found = forecast.mix(43 * SLOT_S, 3600.0)
    assert found.mean_input_tokens == pytest.approx(4000, rel=0.1)
    assert found.mean_output_tokens == pytest.approx(30, rel=0.1)


def test_the_mix_of_the_hour_is_known_before_it_comes():
    slots = WEEK_SLOTS + 8 * HOUR_SLOTS - 3
    forecast = after([office_hours(slot) for slot in range(slots)])
    now_s = slots * SLOT_S
    assert forecast.mix(now_s).mean_input_tokens < 1500
    assert forecast.mix(now_s, 2 * 3600.0).mean_input_tokens > 2800
    low, high = (forecast.mean_tokens(now_s, 2 * 3600.0, q)[0] for q in (0.025, 0.975))
    assert low < 4000 < high


def test_lengths_stay_together():
    pairs = LengthMix(np.array([100, 5000] * 50), np.array([1000, 10] * 50))
    found = after([pairs] * 30).mix(30 * SLOT_S)
    assert set(zip(found.input_tokens.tolist(), found.output_tokens.tolist(), strict=True)) == {(100, 1000), (5000, 10)}
    assert np.mean(found.input_tokens == 100) == pytest.approx(0.5, abs=0.05)


def test_busy_slots_count_more():
    forecast = MixForecast(FROM_ZERO)
    for slot in range(10):
        busy = slot % 2 == 0
        forecast.observe(slot * SLOT_S, mix(1000 if busy else 100, 50, slot), 900.0 if busy else 100.0)
    assert forecast.mix(10 * SLOT_S).mean_input_tokens == pytest.approx(910, rel=0.1)


def test_a_service_that_was_still_goes_on_as_before():
    forecast = after([mix(800, 80, seed) for seed in range(6)])
    assert forecast.mix(100 * SLOT_S).mean_input_tokens == pytest.approx(800, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(
    slots=st.lists(st.integers(-3000, 3000), min_size=1, max_size=20),
    sizes=st.integers(1, 700),
    q=st.floats(0.01, 0.98),
    lead_s=st.floats(0, 1e5),
)
def test_whatever_is_seen_there_is_a_mix(slots, sizes, q, lead_s):
    forecast = MixForecast()
    for slot in slots:
        forecast.observe(slot * SLOT_S, mix(1000, 100, size=sizes), 3.0)
    now_s = slots[-1] * SLOT_S
    found = forecast.mix(now_s, lead_s)
    assert len(found.input_tokens) > 400
    assert (found.input_tokens >= 1).all()
    assert (found.output_tokens >= 1).all()
    lower, upper = forecast.mean_tokens(now_s, lead_s, q), forecast.mean_tokens(now_s, lead_s, q + 0.01)
    assert np.isfinite([*lower, *upper]).all()
    assert lower <= upper


def test_what_lies_back_is_not_used_unless_the_clock_was_set_back():
    forecast = after([mix(500, 50, seed) for seed in range(20)], start=1000)
    assert not forecast.observe(1015 * SLOT_S, mix(5000, 50), 100.0)
    assert forecast.mix(1020 * SLOT_S).mean_input_tokens == pytest.approx(500, rel=0.1)
    assert forecast.observe(300 * SLOT_S, mix(5000, 50), 100.0)
    assert forecast.mix(301 * SLOT_S).mean_input_tokens == pytest.approx(5000, rel=0.15)


def test_what_is_no_observation_is_refused_or_not_used():
    forecast = MixForecast()
    for requests in (nan, inf, -1.0):
        with pytest.raises(ValueError, match="requests is"):
            forecast.observe(0.0, mix(500, 50), requests)
    with pytest.raises(ValueError, match="start_s is"):
        forecast.observe(nan, mix(500, 50), 1.0)
    assert not forecast.observe(0.0, mix(500, 50), 0.0)
    with pytest.raises(ValueError, match="q is"):
        forecast.mean_tokens(0.0, 0.0, 1.5)
    assert forecast.mix(0.0) is None


def test_a_restored_state_goes_on_alike():
    one = after([office_hours(slot) for slot in range(100)])
    other = MixForecast(FROM_ZERO)
    other.restore(one.state())
    for forecast in (one, other):
        forecast.observe(100 * SLOT_S, mix(900, 90), 50.0)
    assert (one.mix(101 * SLOT_S).input_tokens == other.mix(101 * SLOT_S).input_tokens).all()
    assert one.mean_tokens(101 * SLOT_S, 0.0, 0.9) == other.mean_tokens(101 * SLOT_S, 0.0, 0.9)
