import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.operating_point import saturation_rps, simulate_point, unit_load
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.arrivals import interarrival_cv
from dynawatt.workload.mix import LengthMix

from .conftest import objectives
from .small_replica import small_replica

REPLICA = small_replica()
SHAPE = ReplicaShape(REPLICA, EngineSettings(2048, 64, 100_000))
MIX = LengthMix(np.array([100, 300, 800, 1500]), np.array([20, 60, 30, 90]))
EQUAL = LengthMix(np.array([1000]), np.array([100]))


def simulate(load, rate_rps, *, replicas=1, clock_mhz=1980, slo=None):
    return simulate_point(SHAPE, slo or objectives(), load, rate_rps, replicas=replicas, clock_mhz=clock_mhz)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 50), requests=st.integers(20, 400), cv=st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_a_load_has_the_rate_and_the_lengths_of_its_mix(rows, requests, cv):
    mix = LengthMix(np.arange(1, rows + 1), np.arange(rows, 0, -1))
    load = unit_load(mix, cv, requests, seed=1)
    measured = len(load.trace) - load.warm_up
    assert measured == round(requests * max(1, cv**2))
    assert load.at(7.0).mean_rps == pytest.approx(7.0)
    assert (load.trace.input_tokens + load.trace.output_tokens == rows + 1).all()
    counts = np.bincount(load.trace.input_tokens, minlength=rows + 1)[1:]
    assert counts.max() - counts.min() <= 1
    assert load.at(7.0).arrival_s.tolist() == unit_load(mix, cv, requests, seed=1).at(7.0).arrival_s.tolist()


def test_a_load_is_as_bursty_as_asked():
    for cv in (0.5, 1.09, 2.0):
        assert interarrival_cv(unit_load(MIX, cv, 5000, seed=3).trace.arrival_s) == pytest.approx(cv, rel=0.1)


def test_a_lonely_request_takes_what_the_model_says():
    point = simulate(unit_load(EQUAL, 0.0, 100, seed=1), 0.01)
    first_s = REPLICA.step_s(Batch(0, 0, 1000, chunk_pairs(1000, 0)), 1980)
    gap_s = REPLICA.step_s(Batch(1, 1050, 0, 0.0), 1980)
    assert point.ttft_p50_s == pytest.approx(first_s, rel=0.01)
    assert point.tbt_p50_s == pytest.approx(gap_s, rel=0.01)
    assert point.output_tokens_per_s == pytest.approx(1.0, rel=0.01)
    assert point.attainment == 1.0
    idle_w = REPLICA.loaded_idle_w(1980)
    busy_j = point.power_w * 100 - (100 - first_s - 99 * gap_s) * idle_w
    work_j = first_s * REPLICA.power_w(Batch(0, 0, 1000, chunk_pairs(1000, 0)), 1980)
    work_j += 99 * gap_s * REPLICA.power_w(Batch(1, 1050, 0, 0.0), 1980)
    assert busy_j == pytest.approx(work_j, rel=0.01)


def test_replicas_apart_see_what_one_sees_alone():
    load = unit_load(EQUAL, 0.0, 300, seed=1)
    alone, shared = simulate(load, 0.05), simulate(load, 0.05, replicas=3)
    assert shared.power_w == pytest.approx(alone.power_w, rel=0.02)
    assert shared.output_tokens_per_s == pytest.approx(alone.output_tokens_per_s, rel=0.02)
    assert shared.ttft_p99_s == pytest.approx(alone.ttft_p99_s)


def test_saturation_is_where_the_queue_begins_to_grow():
    limit_rps = saturation_rps(SHAPE, MIX, 1980)
    load = unit_load(MIX, 1.0, 3000, seed=1)
    below, above = simulate(load, 0.8 * limit_rps), simulate(load, 1.3 * limit_rps)
    assert below.output_tokens_per_s == pytest.approx(0.8 * limit_rps * MIX.output_tokens.mean(), rel=0.03)
    assert above.output_tokens_per_s == pytest.approx(limit_rps * MIX.output_tokens.mean(), rel=0.05)
    assert above.ttft_p50_s > 20 * below.ttft_p50_s


def test_more_requests_tell_saturation_more_exactly():
    rng = np.random.default_rng(4)
    mixes = [LengthMix(rng.permutation(np.geomspace(50, 8000, 4096).astype(np.int64)), np.full(4096, 20))]
    mixes += [LengthMix(rng.permutation(mixes[0].input_tokens), mixes[0].output_tokens) for _ in range(5)]
    # The same lengths in another order: what a replica can serve is the same.
    few, many = (np.array([saturation_rps(SHAPE, mix, 1980, count) for mix in mixes]) for count in (1200, 16_384))
    assert np.ptp(many) < 0.02 * many.mean()
    assert np.ptp(few) > 2 * np.ptp(many)


def test_saturation_with_long_answers_is_not_that_of_the_first_batch_alone():
    # 1,024 at once: of a burst of little more, all prompts are read first and all answers end together.
    shape = ReplicaShape(REPLICA, EngineSettings(2048, 1024, 2_000_000))
    mix = LengthMix(np.array([600, 700, 800, 900]), np.array([380, 400, 420, 440]))
    sustained_rps = saturation_rps(shape, mix, 1980, 60_000)
    assert saturation_rps(shape, mix, 1980) == pytest.approx(sustained_rps, rel=0.02)


def test_late_first_tokens_of_an_overload_count_as_missed():
    limit_rps = saturation_rps(SHAPE, EQUAL, 1980)
    point = simulate(unit_load(EQUAL, 1.0, 1000, seed=1), 3 * limit_rps, slo=objectives(0.5, 1.0))
    assert point.ttft_attainment < 0.05
    assert point.classes[0].requests == pytest.approx(1000, rel=0.2)


def test_requests_that_never_fit_are_missed():
    shape = ReplicaShape(REPLICA, EngineSettings(2048, 64, 1600))
    mix = LengthMix(np.array([100, 100, 100, 3000]), np.array([20, 20, 20, 20]))
    point = simulate_point(shape, objectives(), unit_load(mix, 0.0, 400, seed=1), 0.1, replicas=1, clock_mhz=1980)
    assert point.ttft_attainment == pytest.approx(0.75, abs=0.03)
    assert [latency.name for latency in point.classes] == ["SS"]
    assert point.classes[0].ttft_attainment == 1.0


def test_a_longer_run_is_surer():
    widths = []
    for requests in (300, 6000):
        point = simulate(unit_load(MIX, 1.0, requests, seed=1), 20.0, slo=objectives(0.1, 0.05))
        assert 0.5 < point.ttft_attainment < 0.9999
        widths.append(point.ttft_interval[1] - point.ttft_interval[0])
    assert widths[1] < widths[0] / 2
