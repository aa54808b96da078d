import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.workload.trace import MAX_TOKENS, ScaleMode, Trace


def trace_at(*arrival_s: float, input_tokens: int = 5, output_tokens: int = 3) -> Trace:
    count = len(arrival_s)
    return Trace(np.array(arrival_s, dtype=float), np.full(count, input_tokens), np.full(count, output_tokens))


traces = st.lists(
    st.tuples(st.floats(0, 1000), st.integers(1, 4000), st.integers(1, 900)), min_size=1, max_size=60
).map(lambda rows: Trace(*(np.array(column) for column in zip(*sorted(rows), strict=True))))
factors = st.floats(0.05, 12)


def pairs(trace):
    return sorted(zip(trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0.0, 1.0], [1], [1, 1]), "different lengths"),
        (([0.0, 2.0, 1.0], [1, 1, 1], [1, 1, 1]), "request 3 arrives before"),
        (([-0.5, 2.0], [1, 1], [1, 1]), "request 1 arrives at -0.5 s"),
        (([0.0, np.nan], [1, 1], [1, 1]), "request 2 arrives at nan s"),
        (([0.0, np.inf], [1, 1], [1, 1]), "request 2 arrives at inf s"),
        (([0.0, 1.0], [1, 0], [1, 1]), "request 2 has 0 input tokens"),
        (([0.0, 1.0], [1, 1], [-4, 1]), "request 1 has -4 output tokens"),
        (([0.0], [MAX_TOKENS + 1], [1]), "request 1 has 1000001 input tokens: must be between 1 and 1000000"),
    ],
)
def test_refuses(columns, message):
    with pytest.raises(InvalidInputError, match=message):
        Trace(*(np.array(column) for column in columns))


def test_rates():
    trace = trace_at(0, 1, 2, 10, 10.5, 11, 20)
    assert trace.span_s == 20
    assert trace.mean_rps == pytest.approx(7 / 20)
    assert trace.peak_rps(window_s=2) == 3 / 2
    assert trace_at(0).mean_rps == 0
    assert trace_at().peak_rps() == trace_at().mean_rps == trace_at().span_s == 0


def test_window_is_half_open_and_starts_at_zero():
    trace = trace_at(0, 1, 2, 3, 4)
    assert trace.window(1, 2).arrival_s.tolist() == [0, 1]
    assert trace.window(2.5).arrival_s.tolist() == [0.5, 1.5]
    assert len(trace.window(9)) == 0


@given(traces, factors, st.integers(0, 5))
def test_superposing_multiplies_the_count_within_the_span(trace, factor, seed):
    scaled = trace.superpose(factor, seed)
    assert abs(len(scaled) - factor * len(trace)) <= 0.5 + 1e-6
    assert (np.diff(scaled.arrival_s) >= 0).all()
    assert scaled.span_s <= trace.span_s
    assert set(pairs(scaled)) <= set(pairs(trace))


@given(traces, st.integers(2, 6))
def test_superposed_copies_are_whole(trace, factor):
    assert pairs(trace.superpose(factor)) == sorted(pairs(trace) * factor)


def test_superposed_copies_are_shifted_apart():
    copies = trace_at(0, 100).superpose(5, seed=3)
    times_s = np.unique(np.round(copies.arrival_s, 6))
    assert len(times_s) == 6  # the first copy at 0 and 100, the others at their shift: around the span, 100 is 0
    assert (np.diff(times_s) > 4 - 1e-6).all()


def test_coinciding_copies_keep_the_course_of_the_load():
    busy_then_quiet = trace_at(*np.linspace(0, 600, 60), *np.linspace(1200, 3600, 20))
    copies = busy_then_quiet.superpose(10, within_s=ScaleMode.COINCIDE.within_s)
    assert len(copies.window(0, 660)) == pytest.approx(600, abs=30)
    assert len(copies.window(660, 540)) == 0
    # Around the span, both thirds would have about as many.
    assert len(copies.window(0, 1200)) > 2.5 * len(copies.window(1200, 2400))


def test_superposing_depends_on_the_seed_only():
    trace = trace_at(*np.linspace(0, 50, 40))
    assert trace.superpose(2.5, 1).arrival_s.tolist() == trace.superpose(2.5, 1).arrival_s.tolist()
    assert trace.superpose(2.5, 1).arrival_s.tolist() != trace.superpose(2.5, 2).arrival_s.tolist()


@given(traces, factors)
def test_compressing_keeps_burstiness_and_requests(trace, factor):
    scaled = trace.compress(factor)
    assert pairs(scaled) == pairs(trace)
    assert scaled.span_s == pytest.approx(trace.span_s / factor)
    if len(trace) > 2 and np.diff(trace.arrival_s).mean() > 1e-3:
        before, after = np.diff(trace.arrival_s), np.diff(scaled.arrival_s)
        assert after.std() / after.mean() == pytest.approx(before.std() / before.mean())


@pytest.mark.parametrize("factor", [0, -1, 1001, np.nan, np.inf])
@pytest.mark.parametrize("scale", [Trace.superpose, Trace.compress])
def test_impossible_scale(scale, factor):
    with pytest.raises(InvalidInputError, match="rate scale"):
        scale(trace_at(0, 1), factor)


@pytest.mark.parametrize("mode", ScaleMode)
@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_excerpt_has_the_wanted_rate_and_duration(mode, scale):
    trace = trace_at(*np.linspace(0, 1000, 2001))
    excerpt = trace.excerpt(rate_scale=scale, mode=mode, start_s=200, duration_s=100, seed=1)
    assert len(excerpt) == pytest.approx(200 * scale, rel=0.2)
    assert excerpt.span_s == pytest.approx(100, abs=3)


def test_excerpt_starts_in_time_of_the_trace():
    trace = trace_at(0, 10, 20, 30)
    assert trace.excerpt(mode=ScaleMode.COMPRESS, rate_scale=2, start_s=10).arrival_s.tolist() == [0, 5, 10]
    assert trace.excerpt(start_s=10, duration_s=15).arrival_s.tolist() == [0, 10]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_s": -1}, "start offset -1 s"),
        ({"start_s": np.nan}, "start offset nan s"),
        ({"duration_s": 0}, "duration 0 s"),
        ({"start_s": 50}, "no request to send from 50 s on: the trace has 3 in 2.0 s"),
        ({"rate_scale": 0}, "rate scale 0"),
    ],
)
def test_impossible_excerpt(options, message):
    with pytest.raises(InvalidInputError, match=message):
        trace_at(0, 1, 2).excerpt(**options)
