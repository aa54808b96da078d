import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.perfmodel.derivation.grid import fit_broken_line, samples_between

KNOTS = (1, 4, 16, 17, 64, 256)


def test_samples_hold_all_knots_and_quarters_between():
    assert samples_between((1, 9, 10)) == (1, 3, 5, 7, 9, 10)


@given(st.lists(st.floats(1e-3, 10), min_size=len(KNOTS), max_size=len(KNOTS)))
def test_recovers_a_broken_line(at_knots):
    points = samples_between(KNOTS)
    values = np.interp(points, KNOTS, at_knots)
    assert fit_broken_line(points, values, KNOTS) == pytest.approx(at_knots, rel=1e-6, abs=1e-9)


def test_a_jump_between_neighbouring_knots_is_kept():
    points = samples_between(KNOTS)
    values = np.where(np.array(points) <= 16, 1.0, 2.0)
    assert fit_broken_line(points, values, KNOTS) == pytest.approx([1, 1, 1, 2, 2, 2], rel=1e-6)


def test_small_and_large_values_count_alike():
    points, knots = (1, 2, 3, 1000), (1, 3, 1000)
    fitted = fit_broken_line(points, np.array([1.0, 1.2, 1.0, 1000.0]), knots)
    # The bump at 2 is shared by its neighbours; the far value, a thousand times larger, does not flatten them.
    assert fitted[2] == pytest.approx(1000, rel=1e-6)
    assert 1.0 < fitted[0] < 1.2


def test_all_zeros_stay_zeros():
    assert fit_broken_line(KNOTS, np.zeros(len(KNOTS)), KNOTS) == pytest.approx(np.zeros(len(KNOTS)))
