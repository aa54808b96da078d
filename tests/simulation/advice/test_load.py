import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.advice.load import ServiceLoad, slot_widths

from .models import MIX, load_of


def test_gaps_are_left_out():
    load = load_of([2.0, np.nan, 4.0])
    assert load.requests == pytest.approx(1800)
    assert load.known_s == 600
    assert load.mean_rps == pytest.approx(3.0)
    assert load.per_day(1.0) == pytest.approx(144)


def test_a_short_last_slot_is_no_peak_but_counts():
    load = load_of([2.0, 2.0, 50.0], last_s=10.0)
    assert load.peak_rps == 2.0
    assert load.requests == pytest.approx(1200 + 500)


def test_a_load_shorter_than_a_slot_has_a_peak():
    assert load_of([7.0], last_s=20.0).peak_rps == 7.0


@pytest.mark.parametrize("rates", [[0.0, 0.0], [np.nan, 0.0], [np.nan]])
def test_no_request_is_no_load(rates):
    with pytest.raises(InvalidInputError, match="holds no request"):
        load_of(rates)


@pytest.mark.parametrize("rates", [[-1.0, 3.0], [np.inf, 3.0]])
def test_what_is_no_rate_is_refused(rates):
    with pytest.raises(ValueError, match="rates of a load"):
        load_of(rates)


def test_rows_of_different_length_are_refused():
    with pytest.raises(ValueError, match="must be one row"):
        ServiceLoad(np.ones(3), np.full(2, 300.0), MIX, 1.0)


@given(st.floats(0, 1e6))
def test_slots_fill_the_span(span_s):
    widths = slot_widths(span_s)
    assert widths.sum() == pytest.approx(max(1.0, span_s))
    assert (widths > 0).all()
    assert (widths[:-1] == 300).all()
    assert widths[-1] <= 300
