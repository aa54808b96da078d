"""Governors of the simulator, and what they read."""

from dataclasses import replace

import numpy as np

from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.simulation.agents import Agents, pod_readings
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape, ReplicaState
from dynawatt.simulation.policy import Governed
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.trace import Trace

from .policies.small_study import OBJECTIVES, poisson
from .small_replica import small_replica

SETTINGS = EngineSettings(max_num_batched_tokens=1024, max_num_seqs=64, kv_capacity_tokens=60_000)


def claim(*loads_rps):
    rows = tuple(ClockRow(810 + 195 * row, load, 1e6, 60) for row, load in enumerate(loads_rps))
    return Governed(GovernorTable(0.99, 0.05, 1.0, 700.0, 60.0, True, rows), 810, 1980)


def governed_clock(agents, core, claims, seconds):
    """Steps of one second without a request; the last clock of the only replica."""
    found = {}
    for _ in range(seconds):
        core.advance(core.now_s + 1.0)
        found = agents.step(core.now_s, claims, core.snapshot())
    return found


def test_each_claimed_replica_has_a_governor_that_begins_at_the_ceiling_and_falls_with_the_load():
    core, agents = FleetCore([ReplicaShape(small_replica(), SETTINGS)], OBJECTIVES), Agents()
    for _ in range(2):
        core.add_replica(0, clock_mhz=1980.0)
    claims = {1: claim(1.0, 2.0, 3.0)}
    assert governed_clock(agents, core, claims, 1) == {1: 1980.0}
    assert governed_clock(agents, core, claims, 60) == {1: 810.0}


def test_a_governor_goes_on_from_where_it_is_when_its_claim_changes():
    core, agents = FleetCore([ReplicaShape(small_replica(), SETTINGS)], OBJECTIVES), Agents()
    core.add_replica(0, clock_mhz=1980.0)
    governed_clock(agents, core, {0: claim(1.0, 2.0)}, 60)
    assert governed_clock(agents, core, {0: claim(3.0, 4.0)}, 1) == {0: 810.0}
    # Without a claim in between, the next one begins anew.
    assert governed_clock(agents, core, {}, 1) == {}
    assert governed_clock(agents, core, {0: claim(3.0, 4.0)}, 1) == {0: 1980.0}


def test_what_replicas_count_adds_up_to_the_fleet():
    # A KV cache this small preempts.
    tight = ReplicaShape(small_replica(), replace(SETTINGS, kv_capacity_tokens=4000))
    core = FleetCore([tight], OBJECTIVES)
    for _ in range(3):
        core.add_replica(0, clock_mhz=1200.0)
    trace = poisson(6.0, 0.0, 300.0)
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
