from dataclasses import replace

import numpy as np
import pytest

from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape, ReplicaState
from dynawatt.simulation.governed_policies import (
    CLOCK_ONLY,
    ClockOnlyPolicy,
    clock_only,
    governor_clocks,
    pod_readings,
)
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.sizing import Demand
from dynawatt.simulation.static_policies import StaticPolicy
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

from .small_replica import small_replica

OBJECTIVES = LatencyObjectives(((256, 0.25), (None, 1.0)), 0.05)
SETTINGS = EngineSettings(max_num_batched_tokens=1024, max_num_seqs=64, kv_capacity_tokens=60_000)
MIX = LengthMix(np.array([100, 400, 900, 1800]), np.array([50, 150, 100, 200]))
HORIZON_S = 1200.0
REPLICAS = 3


@pytest.fixture(scope="module")
def shape():
    return ReplicaShape(small_replica(), SETTINGS)


@pytest.fixture(scope="module")
def single(shape):
    return StaticPolicy("single-pool", shape, REPLICAS, shape.replica.gpu.default_clock_mhz)


@pytest.fixture(scope="module")
def governed(single):
    """Policies by queue order."""
    demand = Demand(MIX, 1.0, OBJECTIVES, 0.99)
    return {order: clock_only(name, single, order, demand) for name, order in CLOCK_ONLY.items()}


def load(rate_rps, seed=0, horizon_s=HORIZON_S):
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate_rps * horizon_s)
    pick = rng.integers(0, len(MIX.input_tokens), count)
    return Trace(np.sort(rng.uniform(0, horizon_s, count)), MIX.input_tokens[pick], MIX.output_tokens[pick])


def run(policy, trace):
    return simulate(policy, [trace], OBJECTIVES, SimulationSettings(HORIZON_S, 1))


@pytest.mark.parametrize("order", list(QueueOrder))
def test_it_saves_energy_within_the_slo(governed, single, order):
    policy = governed[order]
    trace = load(0.5 * REPLICAS * policy.table.rows[-1].load_rps)
    ours, theirs = run(policy, trace), run(single, trace)
    assert ours.saving_against(theirs) > 0.1
    assert ours.slo_met
    assert ours.unfinished_requests == 0


def test_all_orders_run_the_fleet_that_is_sized_for_arrival_order(governed, single):
    for order, policy in governed.items():
        assert policy.replicas == single.replicas
        assert policy.shape.settings == replace(single.shape.settings, queue_order=order)


def test_clocks_rise_with_the_load_and_fall_after_it(governed):
    policy = governed[QueueOrder.FCFS]
    busy = REPLICAS * 0.9 * policy.table.rows[-1].load_rps
    middle = load(busy, horizon_s=400.0)
    calm = load(0.02 * busy)
    inside = (calm.arrival_s < 400.0) | (calm.arrival_s > 800.0)
    arrival_s = np.concatenate([calm.arrival_s[inside], 400.0 + middle.arrival_s])
    order = np.argsort(arrival_s)
    inputs = np.concatenate([calm.input_tokens[inside], middle.input_tokens])[order]
    outputs = np.concatenate([calm.output_tokens[inside], middle.output_tokens])[order]
    seen = {}

    class Watched(ClockOnlyPolicy):
        def govern(self, now_s, view):
            seen[now_s] = clocks = super().govern(now_s, view)
            return clocks

    watched = Watched("watched", policy.shape, policy.replicas, policy.table, policy.floor_mhz, policy.ceiling_mhz)
    run(watched, Trace(arrival_s[order], inputs, outputs))
    calm_mhz, busy_mhz, after_mhz = (np.mean(list(seen[now_s].values())) for now_s in (390.0, 790.0, 1190.0))
    assert calm_mhz < 0.7 * busy_mhz
    assert after_mhz < 0.7 * busy_mhz


def test_a_table_that_is_wrong_is_put_right_by_feedback(governed, single):
    policy = governed[QueueOrder.FCFS]
    lies = GovernorTable(
        **{
            **{name: getattr(policy.table, name) for name in GovernorTable.__dataclass_fields__},
            "rows": (ClockRow(policy.floor_mhz, 1e6, 1e9, 1000),),
            "kv_requests": 1e-3,
        }
    )
    trace = load(0.7 * REPLICAS * policy.table.rows[-1].load_rps)
    believed = replace(policy, table=lies)
    fixed = StaticPolicy("floor", policy.shape, policy.replicas, policy.floor_mhz)
    late, corrected = run(fixed, trace).tally, run(believed, trace).tally
    assert min(late.ttft_attainment(), late.tbt_attainment()) < 0.9
    missed, remaining = 1 - late.ttft_attainment(), 1 - corrected.ttft_attainment()
    assert remaining < 0.5 * missed


def test_a_run_leaves_nothing_behind_in_the_policy(governed):
    policy = governed[QueueOrder.FCFS]
    trace = load(4.0)
    first, second = run(policy, trace), run(policy, trace)
    assert first.energy_idling_j == second.energy_idling_j
    assert first.clock_changes == second.clock_changes


def test_clocks_of_a_table_are_supported_and_fine_where_voltage_falls(shape):
    gpu = shape.replica.gpu
    clocks = governor_clocks(gpu)
    assert set(clocks) <= set(gpu.supported_clocks_mhz)
    assert (clocks[0], clocks[-1]) == (810, gpu.default_clock_mhz)
    assert gpu.voltage_knee_mhz in clocks
    above = [clock for clock in clocks if clock >= gpu.voltage_knee_mhz]
    assert max(np.diff(above)) <= 45


def test_what_replicas_count_adds_up_to_the_fleet():
    # A KV cache this small preempts.
    tight = ReplicaShape(small_replica(), replace(SETTINGS, kv_capacity_tokens=4000))
    core = FleetCore([tight], OBJECTIVES)
    for _ in range(3):
        core.add_replica(0, clock_mhz=1200.0)
    trace = load(6.0, horizon_s=300.0)
    for until_s in np.arange(1.0, 301.0):
        rows = (trace.arrival_s >= core.now_s) & (trace.arrival_s < until_s)
        core.advance(until_s, Trace(trace.arrival_s[rows], trace.input_tokens[rows], trace.output_tokens[rows]))
        found, tally = core.snapshot(), core.tally()
        assert found.first_tokens.sum() == tally.ttft_histogram.sum()
        assert found.first_tokens_met.sum() == tally.ttft_met.sum()
        assert found.prompt_tokens.sum() == tally.input_tokens
        assert found.gaps.sum() == tally.gaps.sum()
        assert found.gaps_met.sum() == tally.gaps_met.sum()
        assert found.finished.sum() == tally.finished.sum()
        assert (found.finished + found.running + found.waiting).sum() == tally.requests.sum()
    assert core.tally().preemptions > 0
    assert 0 < tally.ttft_met.sum() < tally.ttft_histogram.sum()
    assert 0 < tally.gaps_met.sum() < tally.gaps.sum()


def test_readings_are_those_of_the_replica_and_of_no_other():
    core = FleetCore([ReplicaShape(small_replica(), SETTINGS)], OBJECTIVES)
    first, second, starting = (core.add_replica(0, clock_mhz=1980.0, ready_s=ready) for ready in (None, None, 900.0))
    core.advance(10.0, Trace(np.array([1.0]), np.array([300]), np.array([4])))
    readings = pod_readings(core.snapshot())
    assert set(readings) == {first, second}
    assert core.snapshot().state[starting] == ReplicaState.STARTING
    mine, other = readings[first], readings[second]
    assert mine == (0, 0, 0, 1, 1, 1, 3, 3, 300, 4)
    assert other == (0,) * 10


def test_a_slot_that_is_used_again_counts_from_zero():
    core = FleetCore([ReplicaShape(small_replica(), SETTINGS)], OBJECTIVES)
    old = core.add_replica(0, clock_mhz=1980.0)
    core.advance(10.0, Trace(np.array([1.0]), np.array([300]), np.array([4])))
    core.drain(old)
    new = core.add_replica(0, clock_mhz=1980.0)
    assert pod_readings(core.snapshot())[new].finished == 0
