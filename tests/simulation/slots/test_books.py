import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.simulation.slots.books import Books
from dynawatt.simulation.slots.tables import Operation

times = st.floats(1e-4, 1e3)


def operation(p50_s=0.2, p99_s=0.9, attainment=0.9):
    row = np.ones(9)
    return Operation(
        power_w=1000.0,
        ttft_mean_s=0.3,
        tbt_mean_s=0.02,
        ttft_attainment=attainment * row,
        tbt_attainment=0.5 * row,
        ttft_p50_s=p50_s * row,
        ttft_p99_s=p99_s * row,
        tbt_p50_s=0.01 * row,
        tbt_p99_s=0.05 * row,
    )


def one(index, count):
    row = np.zeros(9)
    row[index] = count
    return row


@given(times, times, st.floats(0.001, 1e6), st.floats(0, 1), st.integers(0, 8))
def test_every_first_token_is_in_the_histogram_once(p50_s, p99_s, count, late, index):
    books = Books()
    books.serve(one(index, count), one(index, late * count), one(index, 3 * count), 5.0, operation(p50_s, p99_s))
    assert books.ttft_histogram[index].sum() == pytest.approx(count)
    assert books.gap_histogram[index].sum() == pytest.approx(3 * count)
    assert books.ttft_histogram.sum() == pytest.approx(count)
    assert books.ttft_histogram.min() >= 0


def test_quantiles_are_those_of_the_surface():
    books = Books()
    books.serve(one(4, 1000.0), one(4, 0.0), one(4, 9000.0), 0.0, operation())
    tally = books.tally()
    assert tally.ttft_quantile_s(0.5) == pytest.approx(0.2, rel=0.02)
    assert tally.ttft_quantile_s(0.99) == pytest.approx(0.9, rel=0.1)
    assert tally.tbt_quantile_s(0.5) == pytest.approx(0.01, rel=0.02)


def test_who_waited_is_late_and_as_late_as_that():
    books = Books()
    books.serve(one(4, 100.0), one(4, 100.0), one(4, 0.0), 60.0, operation(attainment=1.0))
    tally = books.tally()
    assert tally.ttft_met.sum() == 0
    assert tally.ttft_quantile_s(0.5) == pytest.approx(60.2, rel=0.02)
    assert tally.ttft_sum_s.sum() == pytest.approx(100 * 60.3)


def test_fractions_add_up_to_whole_counts():
    books = Books()
    for _ in range(300):
        books.requests += one(2, 1 / 3)
        books.serve(one(2, 1 / 3), one(2, 0.0), one(2, 2 / 3), 0.0, operation())
    tally = books.tally()
    assert (tally.requests.sum(), tally.finished.sum(), tally.gaps.sum()) == (100, 100, 200)
    assert (tally.ttft_met.sum(), tally.gaps_met.sum()) == (90, 100)
    assert tally.output_tokens == pytest.approx(300, abs=1)
