import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.simulation.confidence import attainment_interval, wilson_interval


@pytest.mark.parametrize(
    ("share", "trials", "expected"),
    [
        (0.99, 3000, (0.9858, 0.9930)),
        (0.5, 10, (0.2366, 0.7634)),
        (1.0, 100, (0.9630, 1.0)),
        (0.0, 100, (0.0, 0.0370)),
        (0.7, 0, (0.0, 1.0)),
    ],
)
def test_wilson(share, trials, expected):
    assert wilson_interval(share, trials) == pytest.approx(expected, abs=1e-4)


def interval(met, total, most=1e9):
    return attainment_interval(np.array(met, dtype=float), np.array(total, dtype=float), most)


def width(found):
    return found[1] - found[0]


def test_misses_in_clusters_tell_less_than_single_ones():
    spread = interval([99, 99, 99, 98, 99, 99, 98, 99, 99, 99], [100] * 10)
    together = interval([100] * 9 + [88], [100] * 10)
    assert sum([99, 99, 99, 98, 99, 99, 98, 99, 99, 99]) == 9 * 100 + 88
    assert width(together) > 2 * width(spread)
    assert width(spread) == pytest.approx(width(wilson_interval(0.988, 1000)))


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    truth, size, held = 0.98, 300, 0
    for _ in range(2000):
        # Requests meet or miss in clusters of 10.
        met = 10 * rng.binomial(size // 10, truth, size=10)
        low, high = interval(met, np.full(10, size))
        held += low <= truth <= high
    assert 0.92 < held / 2000 < 0.985


def test_without_a_miss_the_bound_on_the_trials_counts():
    assert interval([50_000] * 10, [50_000] * 10, most=100) == wilson_interval(1.0, 100)


def test_nothing_measured_is_nothing_known():
    assert interval([0, 0], [0, 0]) == (0.0, 1.0)


@given(counts=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 50)), min_size=1, max_size=12))
def test_an_interval_holds_what_was_measured(counts):
    met, missed = np.array(counts).T
    low, high = interval(met, met + missed)
    assert 0 <= low <= high <= 1
    if (met + missed).sum():
        assert low <= met.sum() / (met + missed).sum() <= high
