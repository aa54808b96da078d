import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.workload.arrivals import (
    MAX_CV,
    dispersion,
    first_gap,
    interarrival_cv,
    renewal_arrivals,
    renewal_cv,
    renewal_dispersion,
    unit_renewal,
)

CVS = (0.0, 0.2, 0.9, 1.0, 1.09, 3.0, 13.2)


@pytest.mark.parametrize("cv", CVS)
def test_gaps_have_mean_1_and_the_cv(cv):
    gaps = unit_renewal(2_000_000, cv, np.random.default_rng(1))
    assert gaps.mean() == pytest.approx(1, rel=0.003 * (1 + cv))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.02)
    assert (gaps >= 0).all()


def test_cv_1_is_poisson():
    gaps = unit_renewal(200_000, 1.0, np.random.default_rng(2))
    assert np.quantile(gaps, [0.1, 0.5, 0.9]) == pytest.approx(-np.log([0.9, 0.5, 0.1]), rel=0.03)


@given(st.floats(0, 100))
def test_every_cv_gives_finite_gaps(cv):
    gaps = unit_renewal(50, cv, np.random.default_rng(0))
    assert np.isfinite(gaps).all()
    assert (gaps >= 0).all()
    assert first_gap(cv, np.random.default_rng(0)) >= 0


@pytest.mark.parametrize("cv", CVS)
def test_a_process_starts_in_equilibrium(cv):
    """The expected number of arrivals is the time, in a short window and in a long one."""
    rng = np.random.default_rng(3)
    counts = np.array(
        [np.searchsorted(renewal_arrivals(1.0, cv, 400, rng), [0.5, 5.0, 40.0]) for _ in range(20_000)]
    ).mean(axis=0)
    assert counts == pytest.approx([0.5, 5.0, 40.0], rel=0.025 + 0.005 * cv)


def test_bursts_are_those_of_the_azure_code_trace():
    """Count dispersion in windows of 1, 10 and 100 mean gaps; 6.3, 40 and 136 in the trace."""
    times = np.cumsum(unit_renewal(2_000_000, 13.2, np.random.default_rng(4)))
    assert [dispersion(times, window) for window in (1, 10, 100)] == pytest.approx([6.3, 40, 136], rel=0.2)


def test_rate_scales_time_only():
    slow, fast = (renewal_arrivals(rate, 2.0, 100, np.random.default_rng(5)) for rate in (2.0, 8.0))
    assert slow == pytest.approx(4 * fast)


def test_measures():
    assert interarrival_cv(np.array([0.0, 1.0, 4.0])) == pytest.approx(0.5)
    assert interarrival_cv(np.arange(9.0)) == 0
    assert np.isnan(interarrival_cv(np.array([0.0, 1.0])))
    assert dispersion(np.arange(0.0, 100.0), 10) == 0
    poisson = np.cumsum(np.random.default_rng(6).exponential(1, 100_000))
    assert dispersion(poisson, 20) == pytest.approx(1, abs=0.1)
    for too_few in ([], [1.0], [0.0, 19.0]):
        assert np.isnan(dispersion(np.array(too_few), 10))


@pytest.mark.parametrize("cv", [-0.1, 101, np.nan, np.inf])
def test_impossible_burstiness(cv):
    for refuse in (lambda: unit_renewal(3, cv, np.random.default_rng(0)), lambda: first_gap(cv, None)):
        with pytest.raises(InvalidInputError, match=r"burstiness .* must be 0 to 100"):
            refuse()


@pytest.mark.parametrize("rate", [0, -1, np.nan, np.inf])
def test_impossible_rate(rate):
    with pytest.raises(InvalidInputError, match=r"rate .* must be above 0"):
        renewal_arrivals(rate, 1.0, 3, np.random.default_rng(0))


@pytest.mark.parametrize("cv", [1.5, 4.0, 13.0])
@pytest.mark.parametrize("events", [0.5, 20.0, 300.0])
def test_counts_are_dispersed_as_computed(cv, events):
    arrival_s = renewal_arrivals(1.0, cv, 1_000_000, np.random.default_rng(1))
    expected = renewal_dispersion(cv, events)
    assert dispersion(arrival_s, events) == pytest.approx(expected, rel=0.06)
    assert renewal_cv(expected, events) == pytest.approx(cv, rel=1e-3)


def test_dispersions_that_no_process_has():
    assert renewal_cv(0.0, 5.0) == 0
    assert renewal_cv(0.25, 5.0) == 0.5
    assert renewal_cv(1e9, 5.0) == pytest.approx(MAX_CV)
