from dataclasses import replace
from math import inf
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dynawatt.errors import InvalidInputError
from dynawatt.simulation import energy_tuning
from dynawatt.simulation.energy_tuning import tune_for_energy
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.operating_point import simulate_point
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.sizing import Demand

from .policies.small_study import MIX, OBJECTIVES
from .small_replica import small_replica

BASE = EngineSettings(8192, 512, 60_000, queue_order=QueueOrder.DEADLINE)
DEMAND = Demand(MIX, 1.0, OBJECTIVES, 0.99)
KNEE_MHZ = 1590
CHUNKS = (256, 512, 768, 1024, 1280, 1536, 2048, 3072)
THRESHOLDS = (64, 512)


class OnPaper:
    """Stands for the simulator: what a request costs by chunk, and how much a threshold takes off."""

    def __init__(self, monkeypatch, costs_j, gains_j=None):
        self.costs_j, self.gains_j = costs_j, gains_j or {}
        self.tried = []
        monkeypatch.setattr(energy_tuning, "fleet_sweep", self.sweep)
        monkeypatch.setattr(energy_tuning, "saturation_rps", lambda *_: 10.0)

    def sweep(self, shape, objectives, load, *, replicas, clock_mhz, limit_rps):
        chunk, threshold = shape.settings.max_num_batched_tokens, shape.settings.long_prefill_token_threshold
        self.tried.append((chunk, threshold))
        self.clock_mhz = clock_mhz
        request_j = self.costs_j[chunk] - self.gains_j.get((chunk, threshold), 0.0)
        idle_w = shape.replica.tensor_parallel * shape.replica.released_w
        return SimpleNamespace(
            bracket=lambda fraction: 0.0 if request_j == inf else 2.0,
            at=lambda rate_rps: SimpleNamespace(power_w=idle_w + request_j * rate_rps),
        )


def tuned(chunks, thresholds=()):
    found = tune_for_energy(small_replica(), BASE, DEMAND, chunks=chunks, thresholds=thresholds)
    return found.settings.max_num_batched_tokens, found.settings.long_prefill_token_threshold, found.request_j


@given(
    falling=st.lists(st.integers(20, 90), min_size=1, max_size=3, unique=True).map(lambda costs: sorted(costs)[::-1]),
    rising=st.lists(st.integers(100, 200), max_size=3, unique=True).map(sorted),
    unattained=st.integers(0, 4),
    gain_j=st.integers(0, 15),
)
@examples(max_examples=30, deadline=None)
def test_in_one_valley_it_finds_what_trying_everything_finds(falling, rising, unattained, gain_j):
    costs_j = dict(zip(CHUNKS, [inf] * unattained + falling + rising, strict=False))
    with pytest.MonkeyPatch.context() as patch:
        best = min(costs_j, key=costs_j.__getitem__)
        OnPaper(patch, costs_j, {(best, 64): gain_j, (best, 512): gain_j / 2})
        chunk, threshold, request_j = tuned(list(costs_j), THRESHOLDS)
    assert chunk == best
    assert threshold == (64 if gain_j > 0 else 0)
    assert request_j == pytest.approx(costs_j[best] - gain_j)


def test_larger_chunks_are_given_up_after_three_worse_ones(monkeypatch):
    paper = OnPaper(monkeypatch, dict(zip(CHUNKS, (90, 50, 60, 55, 70, 10, 10, 10), strict=True)))
    assert tuned(CHUNKS)[:2] == (512, 0)
    assert paper.tried[-1] == (1280, 0)


def test_a_threshold_may_pay_with_twice_the_chunk(monkeypatch):
    costs_j = dict(zip(CHUNKS, (90, 50, 60, 55, 70, 80, 80, 80), strict=True))
    paper = OnPaper(monkeypatch, costs_j, {(1024, 512): 15.0})
    assert tuned(CHUNKS, THRESHOLDS) == (1024, 512, pytest.approx(40.0))
    # One that is no shorter than the chunk changes nothing.
    assert [each for each in paper.tried if each[1]] == [(512, 64), (1024, 64), (1024, 512)]


def test_it_is_judged_at_the_highest_clock_at_the_lowest_voltage(monkeypatch):
    paper = OnPaper(monkeypatch, {512: 50.0})
    tuned([512])
    gpu = small_replica().gpu
    assert paper.clock_mhz == KNEE_MHZ
    assert gpu.relative_voltage(KNEE_MHZ) == gpu.voltage_floor < gpu.relative_voltage(KNEE_MHZ + gpu.clock_step_mhz)


def test_where_nothing_is_carried_the_cost_is_infinite(monkeypatch):
    OnPaper(monkeypatch, dict.fromkeys(CHUNKS, inf))
    found = tune_for_energy(small_replica(), BASE, DEMAND, chunks=CHUNKS)
    assert (found.request_j, found.capacity_rps) == (inf, 0.0)


def test_chunks_beyond_the_profile_are_passed_over(monkeypatch):
    OnPaper(monkeypatch, {512: 50.0})
    most = small_replica().max_iteration_tokens
    assert tuned([512, most + 1, 0])[0] == 512
    with pytest.raises(
        InvalidInputError, match=f"max_num_batched_tokens {most + 1}: the profile .* covers 1 to {most}"
    ):
        tuned([most + 1])


def test_a_batch_is_no_larger_than_the_chunk_and_all_else_stays(monkeypatch):
    OnPaper(monkeypatch, {256: 10.0, 1024: 50.0})
    found = tune_for_energy(small_replica(), BASE, DEMAND, chunks=(256, 1024), thresholds=())
    assert found.settings == replace(BASE, max_num_batched_tokens=256, max_num_seqs=256)


def test_on_the_simulator_it_is_the_best_of_all_that_it_may_choose():
    replica, chunks, thresholds = small_replica(), (256, 1024, 2048), (128, 512)
    load = DEMAND.load(1)

    def measured(settings, rate_rps):
        shape = ReplicaShape(replica, settings)
        return simulate_point(shape, OBJECTIVES, load, rate_rps, replicas=4, clock_mhz=KNEE_MHZ)

    found = tune_for_energy(replica, BASE, DEMAND, chunks=chunks, thresholds=thresholds)
    point = measured(found.settings, found.capacity_rps)
    assert point.attains(0.99)
    assert not measured(found.settings, 1.03 * found.capacity_rps).attains(0.99)
    assert found.request_j == pytest.approx((point.power_w - replica.released_w) / found.capacity_rps)
    for chunk in chunks:
        for threshold in (0, *thresholds):
            rival = replace(
                BASE,
                max_num_batched_tokens=chunk,
                max_num_seqs=min(BASE.max_num_seqs, chunk),
                long_prefill_token_threshold=threshold if threshold < chunk else 0,
            )
            # Whatever load it carries, and however far beyond it is driven, a request costs no less.
            for rate_rps in (0.5 * found.capacity_rps, 0.95 * found.capacity_rps, 1.1 * found.capacity_rps):
                rate = measured(rival, rate_rps)
                if rate.attains(0.99):
                    assert (rate.power_w - replica.released_w) / rate_rps >= 0.995 * found.request_j
