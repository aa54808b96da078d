import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.simulation.advice.course import governed, scaled, untouched

from .models import RELEASED_W, counts, fleet, load_of

MODEL = fleet()
DAY = [6 + 5 * np.sin(2 * np.pi * slot / 288) for slot in range(288)]


def test_an_untouched_fleet_stays_at_its_default_clock():
    load = load_of([0.0, 10.0, 30.0])
    course = untouched(MODEL, load, counts(2, load))
    assert course.clock_mhz.tolist() == [1980] * 3
    # Idle; half the capacity; 1.5 times the capacity, where half of the answers are late.
    assert course.power_w == pytest.approx([800, 1000, 1400])
    assert course.ttft_attainment == pytest.approx([1, 1, 0.5])


def test_a_governed_fleet_takes_the_lowest_clock_that_carries_the_load():
    load = load_of([0.0, 10.0, 10.5, 30.0])
    course = governed(MODEL, load, counts(2, load))
    assert course.clock_mhz.tolist() == [900, 900, 1980, 1980]
    assert course.power_w[:2] == pytest.approx([400, 600])
    assert course.default_power_w[:2] == pytest.approx([800, 1000])


def test_what_is_not_known_is_no_energy_and_no_latency():
    load = load_of([1.0, np.nan, 1.0])
    for course in (untouched(MODEL, load, counts(2, load)), scaled(MODEL, load, 2, 4)):
        for values in (course.power_w, course.ttft_attainment, course.tbt_attainment):
            assert np.isnan(values).tolist() == [False, True, False]


def test_replicas_follow_the_load():
    load = load_of([1.0] * 60 + [35.0] * 60 + [1.0] * 60)
    course = scaled(MODEL, load, first=4, most=8)
    assert course.replicas[50] == 1
    assert course.replicas[100] in (4, 5, 6, 7)
    assert course.replicas[170] == 1
    # The jump itself could not be foreseen: for a slot or two there are too few.
    assert course.ttft_attainment[60] < 0.5
    assert (course.ttft_attainment[66:120] == 1.0).all()


def test_starting_replicas_are_paid_for_before_they_serve():
    load = load_of([1.0] * 60 + [35.0] * 60)
    course = scaled(MODEL, load, first=1, most=8)
    alone = governed(MODEL, load, course.replicas)
    extra_j = ((course.power_w - alone.power_w) * load.width_s).sum()
    started = np.maximum(0, np.diff(course.replicas)).sum()
    assert started >= 3
    assert extra_j == pytest.approx(started * 300.0 * (110.0 - RELEASED_W))


@given(
    rates=st.lists(st.one_of(st.floats(0, 60), st.just(float("nan"))), min_size=2, max_size=40),
    first=st.integers(1, 10),
    most=st.integers(1, 10),
)
def test_there_are_always_replicas_and_never_too_many(rates, first, most):
    load = load_of([*rates, 1.0])
    course = scaled(MODEL, load, first, most)
    assert (course.replicas >= 1).all()
    assert (course.replicas <= most).all()
    assert np.isfinite(course.power_w[load.known]).all()


def test_a_forecast_knows_nothing_of_what_comes():
    load, other = load_of([*DAY[:150], *[50.0] * 20]), load_of([*DAY[:150], *[0.1] * 20])
    # Decided a slot before: the first 151 slots cannot differ.
    assert (scaled(MODEL, load, 3, 10).replicas[:151] == scaled(MODEL, other, 3, 10).replicas[:151]).all()


def test_a_day_is_kept_within_the_objectives_with_fewer_replicas():
    load = load_of(DAY)
    course = scaled(MODEL, load, first=3, most=3)
    assert course.replicas.min() == 1
    assert course.replicas.mean() < 2
    assert np.average(course.ttft_attainment, weights=load.rate_rps) > 0.999


def test_the_fewest_replicas_that_carry_a_rate():
    assert [MODEL.fewest(rate, 5) for rate in (0.0, 10.0, 10.5, 49.0, 500.0)] == [1, 1, 2, 5, 5]
