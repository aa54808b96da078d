import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.workload.context import FitCount, fit_to_context
from dynawatt.workload.trace import Trace


def trace(*pairs):
    inputs, outputs = np.array(pairs).reshape(-1, 2).T
    return Trace(np.arange(len(pairs), dtype=float), inputs, outputs)


def test_too_long_inputs_go_and_outputs_end_with_the_context():
    fitted, count = fit_to_context(trace((10, 90), (10, 91), (99, 1), (99, 7), (100, 1), (500, 5)), 100)
    assert fitted.input_tokens.tolist() == [10, 10, 99, 99]
    assert fitted.output_tokens.tolist() == [90, 90, 1, 1]
    assert fitted.arrival_s.tolist() == [0, 1, 2, 3]
    assert count == FitCount(dropped=2, clipped=2)
    assert count + FitCount(1, 5) == FitCount(3, 7)


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), max_size=30), st.integers(2, 400))
def test_what_is_left_fits(pairs, context):
    fitted, count = fit_to_context(trace(*pairs), context)
    assert (fitted.input_tokens + fitted.output_tokens <= context).all()
    assert len(fitted) + count.dropped == len(pairs)
    assert fit_to_context(fitted, context)[1] == FitCount()


def test_impossible_context():
    with pytest.raises(InvalidInputError, match="context of 1 tokens: must be at least 2"):
        fit_to_context(trace((1, 1)), 1)
