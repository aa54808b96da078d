from dataclasses import replace

import numpy as np
import pytest

from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.governed_policies import CLOCK_ONLY
from dynawatt.simulation.governor_clocks import governor_clocks
from dynawatt.simulation.policies.static import clock_only
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.static_policies import StaticPolicy
from dynawatt.workload.trace import Trace

from .policies.small_study import MIX, OBJECTIVES, settings, small_study
from .small_replica import small_replica
from .small_surfaces import CoarseSurfaces

HORIZON_S = 1200.0
REPLICAS = 3


@pytest.fixture(scope="module")
def shape():
    replica = small_replica()
    return ReplicaShape(replica, settings(replica, QueueOrder.FCFS))


@pytest.fixture(scope="module")
def single(shape):
    return StaticPolicy("single-pool", shape, REPLICAS, shape.replica.gpu.default_clock_mhz)


@pytest.fixture(scope="module")
def governed(shape):
    """Policies by queue order."""
    study = small_study(surfaces=CoarseSurfaces(every=2), single_replicas=REPLICAS, single_settings=shape.settings)
    return {order: clock_only(name, study) for name, order in CLOCK_ONLY.items()}


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
    trace = load(0.5 * REPLICAS * policy.claim.table.rows[-1].load_rps)
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
    busy = REPLICAS * 0.9 * policy.claim.table.rows[-1].load_rps
    middle = load(busy, horizon_s=400.0)
    calm = load(0.02 * busy)
    inside = (calm.arrival_s < 400.0) | (calm.arrival_s > 800.0)
    arrival_s = np.concatenate([calm.arrival_s[inside], 400.0 + middle.arrival_s])
    order = np.argsort(arrival_s)
    inputs = np.concatenate([calm.input_tokens[inside], middle.input_tokens])[order]
    outputs = np.concatenate([calm.output_tokens[inside], middle.output_tokens])[order]
    clocks_mhz = run(policy, Trace(arrival_s[order], inputs, outputs)).series.clock_mhz[0]
    # Points of the series are 30 s wide.
    calm_mhz, busy_mhz, after_mhz = (clocks_mhz[round(end_s / 30) - 1] for end_s in (390, 780, 1190))
    assert calm_mhz < 0.7 * busy_mhz
    assert after_mhz < 0.7 * busy_mhz


def test_a_table_that_is_wrong_is_put_right_by_feedback(governed, single):
    policy = governed[QueueOrder.FCFS]
    lies = GovernorTable(
        **{
            **{name: getattr(policy.claim.table, name) for name in GovernorTable.__dataclass_fields__},
            "rows": (ClockRow(policy.claim.floor_mhz, 1e6, 1e9, 1000),),
            "kv_requests": 1e-3,
        }
    )
    trace = load(0.7 * REPLICAS * policy.claim.table.rows[-1].load_rps)
    believed = replace(policy, claim=replace(policy.claim, table=lies))
    fixed = StaticPolicy("floor", policy.shape, policy.replicas, policy.claim.floor_mhz)
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
