import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.workload import streaming
from dynawatt.workload.recorded import recorded
from dynawatt.workload.streaming import rechunk
from dynawatt.workload.trace import ScaleMode, Trace, joined


def numbered(*arrival_s):
    count = len(arrival_s)
    return Trace(np.array(arrival_s, dtype=float), np.arange(1, count + 1), np.arange(1, count + 1))


times = st.lists(st.floats(0, 100), min_size=1, max_size=80).map(sorted)


@given(times, st.integers(1, 20), st.floats(0.5, 200), st.integers(1, 7))
def test_cutting_again_changes_no_request(arrival_s, piece_rows, chunk_s, most):
    trace = numbered(*arrival_s)
    parts = [slice(at, at + piece_rows) for at in range(0, len(trace), piece_rows)]
    pieces = [Trace(trace.arrival_s[part], trace.input_tokens[part], trace.output_tokens[part]) for part in parts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "MAX_CHUNK_REQUESTS", most)
        chunks = list(rechunk(pieces, chunk_s))
    together = joined(chunks)
    assert together.arrival_s.tolist() == trace.arrival_s.tolist()
    assert together.input_tokens.tolist() == trace.input_tokens.tolist()
    for chunk in chunks:
        assert 1 <= len(chunk) <= most
        assert len(set((chunk.arrival_s // chunk_s).tolist())) == 1


def test_chunks_are_as_long_as_they_may_be():
    chunks = list(rechunk([numbered(0, 1), numbered(2, 9), numbered(10, 35)], 10.0))
    assert [chunk.arrival_s.tolist() for chunk in chunks] == [[0, 1, 2, 9], [10], [35]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate_scale": 0}, "rate scale 0"),
        ({"hours": 0}, "0 hours of short: must be above 0 and at most the 1.667 it lasts"),
        ({"hours": 3}, "3 hours of short"),
        ({"hours": np.nan}, "nan hours"),
        ({"hours": 2, "rate_scale": 2, "scale_mode": ScaleMode.COMPRESS}, "at most the 0.8333"),
        ({"chunk_s": 0}, "chunks of 0 s"),
    ],
)
def test_impossible_requests_are_refused_at_once(options, message):
    with pytest.raises(InvalidInputError, match=message):
        recorded("short", numbered(0, 6000)).chunks(**options)


def test_the_hour_that_a_load_does_not_fill_may_be_asked_for():
    workload = recorded("short", numbered(0, 3000, 6000))
    assert len(joined(list(workload.chunks(hours=2)))) == 3
    assert len(joined(list(workload.chunks(hours=1)))) == 2
