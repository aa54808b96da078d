from dataclasses import replace

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.simulation import sizing
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.operating_point import simulate_point
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.sizing import Demand, capacity_rps, replicas_for, tune_chunk
from dynawatt.workload.mix import LengthMix

from .conftest import objectives
from .small_replica import small_replica

REPLICA = small_replica()
SETTINGS = EngineSettings(2048, 256, REPLICA.kv_capacity_tokens)
MIX = LengthMix(np.array([100, 300, 800, 1500]), np.array([20, 60, 30, 90]))
DEMAND = Demand(MIX, 1.09, objectives(0.3, 0.05), 0.99)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(sizing, "_REQUESTS", 600)
    monkeypatch.setattr(sizing, "_REQUESTS_PER_REPLICA", 200)


def with_chunk(chunk):
    return replace(SETTINGS, max_num_batched_tokens=chunk, max_num_seqs=min(256, chunk))


def test_the_chunk_that_carries_most_is_chosen():
    candidates = (64, 256, 1024, 4096)
    settings, found_rps = tune_chunk(REPLICA, SETTINGS, DEMAND, candidates)
    carried = {chunk: capacity_rps(REPLICA, with_chunk(chunk), DEMAND) for chunk in candidates}
    assert found_rps == max(carried.values()) > min(carried.values())
    assert carried[settings.max_num_batched_tokens] == found_rps
    # 4096 tokens take longer than a gap may, 64 leave hardly any room for prefills.
    assert settings.max_num_batched_tokens in (256, 1024)


def test_a_small_chunk_comes_with_as_few_sequences():
    settings, _ = tune_chunk(REPLICA, SETTINGS, DEMAND, (128,))
    assert (settings.max_num_batched_tokens, settings.max_num_seqs) == (128, 128)


def test_candidates_beyond_the_profile_are_passed_over():
    settings, _ = tune_chunk(REPLICA, SETTINGS, DEMAND, (1024, 1_000_000))
    assert settings.max_num_batched_tokens == 1024
    with pytest.raises(InvalidInputError, match="covers 1 to 16384"):
        tune_chunk(REPLICA, SETTINGS, DEMAND, (1_000_000,))


@pytest.mark.parametrize("peak_rps", [1.0, 55.0, 130.0])
def test_the_fleet_is_the_smallest_that_attains_the_slo(peak_rps):
    count = replicas_for(peak_rps, REPLICA, SETTINGS, DEMAND)

    def attained(replicas):
        shape, load = ReplicaShape(REPLICA, SETTINGS), DEMAND.load(replicas)
        return simulate_point(shape, DEMAND.objectives, load, peak_rps / replicas, replicas=replicas, clock_mhz=1980)

    assert attained(count).attains(0.99)
    assert count == 1 or not attained(count - 1).attains(0.99)


def test_a_fleet_needs_fewer_than_replicas_alone_would():
    alone_rps = capacity_rps(REPLICA, SETTINGS, DEMAND)
    assert replicas_for(12 * alone_rps, REPLICA, SETTINGS, DEMAND) < 12
    assert capacity_rps(REPLICA, SETTINGS, DEMAND, replicas=4) > alone_rps


def test_a_lower_clock_carries_less():
    assert capacity_rps(REPLICA, SETTINGS, DEMAND, clock_mhz=900) < 0.8 * capacity_rps(REPLICA, SETTINGS, DEMAND)


def test_no_load_needs_one_replica():
    assert replicas_for(0.0, REPLICA, SETTINGS, DEMAND) == 1


@pytest.mark.parametrize(
    ("peak_rps", "changes", "problem"),
    [
        (-1.0, {}, "peak load"),
        (float("nan"), {}, "peak load"),
        (10.0, {"percentile": 99}, "must be a fraction"),
        (10.0, {"cv": -1.0}, "burstiness"),
        (10.0, {"objectives": objectives(1e-4, 0.05)}, "misses it under any load"),
    ],
)
def test_what_cannot_be_sized_is_refused(peak_rps, changes, problem):
    with pytest.raises(InvalidInputError, match=problem):
        replicas_for(peak_rps, REPLICA, SETTINGS, replace(DEMAND, **changes))


def test_a_mix_that_does_not_fit_the_memory_is_refused():
    with pytest.raises(InvalidInputError, match="KV cache of 90 tokens"):
        capacity_rps(REPLICA, replace(SETTINGS, kv_capacity_tokens=90), DEMAND)
