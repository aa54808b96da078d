import numpy as np
import pytest

from dynawatt.workload.arrivals import interarrival_cv
from dynawatt.workload.measuring import LoadMeter, measure
from dynawatt.workload.synthetic import rising_and_falling
from dynawatt.workload.trace import Trace


def at(*arrival_s):
    return Trace(np.array(arrival_s, dtype=float), np.full(len(arrival_s), 5), np.full(len(arrival_s), 3))


@pytest.fixture(scope="module")
def trace():
    return rising_and_falling(4000, 5, 30, seed=1)


def test_one_pass_finds_what_the_whole_has(trace):
    meter = LoadMeter()
    for start in range(0, len(trace), 777):
        part = slice(start, start + 777)
        meter.add(Trace(trace.arrival_s[part], trace.input_tokens[part], trace.output_tokens[part]))
    found = meter.result()
    assert (found.requests, found.span_s) == (len(trace), trace.span_s)
    assert found.mean_rps == pytest.approx(trace.mean_rps)
    assert found.interarrival_cv == pytest.approx(interarrival_cv(trace.arrival_s))
    counts = np.histogram(trace.arrival_s, np.arange(0, 4000, 300))[0]
    assert found.peak_rps == counts.max() / 300


def test_the_sample_is_of_all_chunks(trace):
    meter = LoadMeter()
    for number in range(8):
        shifted = trace.arrival_s + 5000 * number
        meter.add(Trace(shifted, np.full(len(trace), 100 + number), np.full(len(trace), 200 + number)))
    sample = meter.result().sample
    assert len(sample.input_tokens) == 16_384
    assert (sample.output_tokens - sample.input_tokens == 100).all()
    shares = np.bincount(sample.input_tokens - 100) / 16_384
    assert shares == pytest.approx([1 / 8] * 8, abs=0.015)


def test_mix_draws_from_the_sample(trace):
    found = measure(trace)
    known = set(zip(trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    mix = found.mix(3000, seed=1)
    assert set(zip(mix.input_tokens.tolist(), mix.output_tokens.tolist(), strict=True)) <= known
    assert mix.mean_input_tokens == pytest.approx(trace.input_tokens.mean(), rel=0.06)
    assert len(measure(at(0, 1)).mix(64, 0).input_tokens) == 64


def test_short_loads():
    assert measure(at(0, 10, 20)).peak_rps == pytest.approx(3 / 20)
    assert measure(at(0, 10, 400, 401)).peak_rps == 2 / 300
    assert np.isnan(measure(at(0, 1)).interarrival_cv)
    assert measure(at(0)).mean_rps == measure(at(0)).peak_rps == 0
    assert LoadMeter().result().requests == 0
