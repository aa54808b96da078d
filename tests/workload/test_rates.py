import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.workload.rates import rate_curve

levels = st.lists(st.floats(0.01, 100), min_size=1, max_size=30)


@given(levels, st.floats(1, 1e6), st.floats(0.01, 1e4))
def test_steps_keep_their_mean(given_levels, span_s, mean_rps):
    curve = rate_curve(given_levels, span_s, mean_rps)
    counts = np.diff(curve.count_by(np.linspace(0, span_s, len(given_levels) + 1)))
    assert counts / counts.sum() == pytest.approx(np.array(given_levels) / sum(given_levels), rel=1e-6)
    assert curve.count[-1] == pytest.approx(span_s * mean_rps)
    assert (curve.span_s, curve.mean_rps) == pytest.approx((span_s, mean_rps))


@given(levels)
def test_the_rate_stays_between_the_levels_around_it(given_levels):
    curve = rate_curve(given_levels, float(len(given_levels)), 1.0)
    level = curve.level_rps
    rates = curve.rate_rps(np.arange(0, len(level), 0.01))
    around = np.array([level, np.append(level[1:], level[-1]), np.insert(level[:-1], 0, level[0])])
    steps = np.arange(0, len(level), 0.01).astype(int)
    assert (rates <= around.max(axis=0)[steps] * (1 + 1e-9)).all()
    assert (rates >= around.min(axis=0)[steps] * (1 - 1e-9)).all()
    assert curve.peak_rps == level.max()


@given(levels)
def test_time_of_inverts_count_by(given_levels):
    curve = rate_curve(given_levels, 1000.0, 3.0)
    times = np.linspace(0, 1000, 777)
    assert curve.time_of(curve.count_by(times)) == pytest.approx(times, abs=1e-6)


def test_a_steady_rise_is_a_straight_line():
    curve = rate_curve([1, 2, 3, 4, 5], 5.0, 3.0)
    assert curve.rate_rps(np.array([1.0, 1.25, 2.0, 3.75])) == pytest.approx([1.5, 1.75, 2.5, 4.25])


def test_empty_steps_have_no_requests():
    curve = rate_curve([0, 2, 0, 0, 2], 5.0, 1.0)
    times = curve.time_of(np.linspace(0, 5, 1001)[1:-1])
    assert not np.isin(times.astype(int), [0, 2, 3]).any()


@pytest.mark.parametrize(
    ("given_levels", "span_s", "mean_rps", "message"),
    [
        ([], 1, 1, "levels"),
        ([0, 0], 1, 1, "levels"),
        ([1, -1], 1, 1, "levels"),
        ([1, np.nan], 1, 1, "levels"),
        ([1], 0, 1, "over 0 s"),
        ([1], 1, np.inf, "mean inf"),
    ],
)
def test_impossible_curves(given_levels, span_s, mean_rps, message):
    with pytest.raises(InvalidInputError, match=message):
        rate_curve(given_levels, span_s, mean_rps)
