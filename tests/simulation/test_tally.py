import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.simulation.tally import HISTOGRAM_BINS, HISTOGRAM_EDGES_S, Tally


def make(ttft_s=(), gap_s=(), requests=0, ttft_met=0, gaps_met=0, energy_j=0.0):
    """All in class 3; other classes are empty."""

    def only(value):
        return np.array([0, 0, 0, value, 0, 0, 0, 0, 0])

    def histogram(values):
        found = np.zeros((9, HISTOGRAM_BINS), np.int64)
        found[3] = np.histogram(values, HISTOGRAM_EDGES_S)[0]
        return found

    return Tally(
        requests=only(requests),
        finished=only(requests),
        ttft_met=only(ttft_met),
        gaps=only(len(gap_s)),
        gaps_met=only(gaps_met),
        ttft_histogram=histogram(ttft_s),
        gap_histogram=histogram(gap_s),
        ttft_sum_s=only(sum(ttft_s)),
        gap_sum_s=only(sum(gap_s)),
        energy_j=np.full(4, energy_j),
        gpu_s=energy_j / 100,
        busy_gpu_s=0.0,
        input_tokens=10 * requests,
        preemptions=0,
        rejected=0,
        iterations=len(gap_s),
    )


def test_bins_are_one_percent_wide_from_a_tenth_of_a_millisecond_to_a_day():
    assert HISTOGRAM_EDGES_S[0] == pytest.approx(1e-4)
    assert HISTOGRAM_EDGES_S[-1] > 1e5
    np.testing.assert_allclose(HISTOGRAM_EDGES_S[1:] / HISTOGRAM_EDGES_S[:-1], 1.01)


@given(st.lists(st.floats(2e-4, 1e4), min_size=1, max_size=60), st.floats(0, 1))
def test_quantiles_are_those_of_the_values_within_a_bin(values, quantile):
    tally = make(ttft_s=values, gap_s=values)
    # numpy's definition of the quantile that needs no value between two others
    expected = np.quantile(values, quantile, method="inverted_cdf")
    for found in (tally.ttft_quantile_s(quantile), tally.tbt_quantile_s(quantile, 3)):
        assert expected / 1.0101 <= found <= expected * 1.0101


def test_quantiles_of_nothing_are_not_a_number():
    assert math.isnan(make().ttft_quantile_s(0.5))
    assert math.isnan(make(gap_s=[1.0]).tbt_quantile_s(0.5, 2))


def test_attainment_counts_requests_without_a_first_token_as_late():
    tally = make(ttft_s=[1.0, 1.0], requests=4, ttft_met=2, gap_s=[0.1] * 10, gaps_met=9)
    assert tally.ttft_attainment() == tally.ttft_attainment(3) == 0.5
    assert tally.tbt_attainment() == tally.tbt_attainment(3) == 0.9
    assert tally.ttft_attainment(0) == tally.tbt_attainment(0) == 1.0


def test_every_request_gives_one_first_token_and_one_more_per_gap():
    assert make(ttft_s=[1.0, 2.0], gap_s=[0.1] * 5).output_tokens == 7


def test_the_difference_of_two_tallies_is_what_came_between():
    earlier = make(ttft_s=[1.0], requests=2, gap_s=[0.1], energy_j=300.0)
    later = make(ttft_s=[1.0, 5.0], requests=5, gap_s=[0.1, 0.2, 0.3], energy_j=500.0)
    between = later - earlier
    assert between.requests[3] == 3
    assert between.energy_j.tolist() == [200.0] * 4
    assert between.gpu_s == 2.0
    assert between.input_tokens == 30
    assert between.output_tokens == 3
    assert between.ttft_quantile_s(0.5) == pytest.approx(5.0, rel=0.01)
