import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.workload import recorded as module
from dynawatt.workload.recorded import recorded
from dynawatt.workload.trace import ScaleMode, Trace, joined

traces = st.lists(
    st.tuples(st.floats(0, 1000), st.integers(1, 4000), st.integers(1, 900)), min_size=1, max_size=60
).map(lambda rows: Trace(*(np.array(column) for column in zip(*sorted(rows), strict=True))))


def rows(trace):
    columns = (trace.arrival_s, trace.input_tokens, trace.output_tokens)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


@given(
    traces,
    st.floats(0.05, 12),
    st.integers(0, 3),
    st.sampled_from([ScaleMode.SUPERPOSE, ScaleMode.COINCIDE]),
    st.integers(1, 50),
    st.floats(1, 2000),
)
def test_streamed_copies_are_those_of_superpose(trace, factor, seed, mode, piece, chunk_s):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PIECE_REQUESTS", piece)
        chunks = recorded("t", trace).chunks(rate_scale=factor, seed=seed, scale_mode=mode, chunk_s=chunk_s)
        streamed = joined(list(chunks))
    assert rows(streamed) == rows(trace if factor == 1 else trace.superpose(factor, seed, mode.within_s))


@given(traces, st.floats(0.05, 12))
def test_compressed(trace, factor):
    streamed = joined(list(recorded("t", trace).chunks(rate_scale=factor, scale_mode=ScaleMode.COMPRESS)))
    assert rows(streamed) == rows(trace.compress(factor))


def test_hours_are_hours_of_the_scaled_load():
    trace = Trace(np.arange(0.0, 7201.0, 100), np.full(73, 5), np.full(73, 3))
    workload = recorded("two hours", trace)
    assert joined(list(workload.chunks(hours=0.5))).span_s == 1800
    assert len(joined(list(workload.chunks(hours=0.5, rate_scale=2, scale_mode=ScaleMode.COMPRESS)))) == 37
    assert len(joined(list(workload.chunks(hours=1, rate_scale=3)))) == pytest.approx(3 * 36.5, abs=3)


def test_a_single_request_can_be_superposed():
    once = recorded("one", Trace(np.zeros(1), np.array([7]), np.array([3])))
    assert rows(joined(list(once.chunks(rate_scale=3)))) == [(0.0, 7, 3)] * 3
