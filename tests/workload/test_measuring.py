import numpy as np
import pytest

from dynawatt.workload.arrivals import interarrival_cv, renewal_arrivals, renewal_dispersion
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


def test_dispersion_is_that_of_seconds_within_five_minutes():
    rng = np.random.default_rng(1)
    steady = renewal_arrivals(10.0, 4.0, 200_000, rng)
    uneven = steady[steady < 6000]
    uneven = np.concatenate([uneven, 6000 + steady[steady < 12_000] / 2, [12_000]])  # then at twice the rate
    meter = LoadMeter()
    for part in np.array_split(uneven, 13):
        meter.add(at(*part))
    counts = np.bincount(uneven.astype(int))[:12_000].reshape(-1, 300)
    expected = counts.var(axis=1, ddof=1).mean() / counts.mean()
    assert meter.result().count_dispersion == pytest.approx(expected)
    assert measure(at(*steady)).count_dispersion == pytest.approx(renewal_dispersion(4.0, 10.0), rel=0.05)


def test_burstiness_is_no_more_than_gaps_and_seconds_tell():
    rng = np.random.default_rng(2)
    bursty = renewal_arrivals(10.0, 4.0, 400_000, rng)
    assert measure(at(*bursty)).burstiness == pytest.approx(4.0, rel=0.05)
    # Pauses of 20 s, between which requests come as they like: great gaps, but no bursts.
    calm = renewal_arrivals(10.0, 1.0, 400_000, rng)
    paused = measure(at(*(calm + 20 * np.floor(calm / 20))))
    assert paused.burstiness < 0.5 * paused.interarrival_cv
    # A rate that falls and rises within every five minutes.
    swinging = measure(at(*(calm + 10 * np.sin(2 * np.pi * calm / 100))))
    assert swinging.burstiness < 1.2 < np.sqrt(swinging.count_dispersion)
    assert measure(at(0, 1)).burstiness == 1
    assert measure(at(*range(0, 3000, 10))).burstiness == 0
