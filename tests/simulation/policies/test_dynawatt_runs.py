"""Small runs of our policy: an hour off the peak, Poisson arrivals, replicas whose surfaces are simulated once."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.policies.dynawatt import dynawatt
from dynawatt.simulation.policies.static import static
from dynawatt.simulation.slots.driver import simulate_slots
from dynawatt.simulation.slots.load import SlotLoad, bin_load
from dynawatt.simulation.static_policies import SINGLE_POOL
from dynawatt.simulation.study import Foresight, History, Knobs
from dynawatt.workload.classes import LengthClasses
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.trace import Trace, joined

from ..small_surfaces import CoarseSurfaces
from .small_study import MIX, OBJECTIVES, poisson, small_study

HORIZON_S = 3600.0
GPUS = 8
SHORT = MIX.input_tokens < 1024
"""Long inputs are left out, so that there is one pool and one surface."""
SURFACES = CoarseSurfaces(every=2)


def rate_rps(slot):
    """Four times a day up to 70 requests/s and down to 10."""
    return 40 + 30 * np.sin(2 * np.pi * slot / 72)


def requests():
    """Of the first hour."""
    rates_rps = rate_rps(np.arange(12)) / SHORT.mean()
    trace = joined([poisson(rate, 300.0 * k, 300.0 * (k + 1), seed=k) for k, rate in enumerate(rates_rps)])
    kept = trace.input_tokens < 1024
    return Trace(trace.arrival_s[kept], trace.input_tokens[kept], trace.output_tokens[kept])


TRACE = requests()
SLOTS = bin_load([TRACE], HORIZON_S, LengthClasses())


def service(**knobs):
    """Its history is the day before, 10 % higher."""
    shares = SLOTS.requests.sum(axis=0) / SLOTS.requests.sum()
    return small_study(
        surfaces=SURFACES,
        mix=LengthMix(MIX.input_tokens[SHORT], MIX.output_tokens[SHORT]),
        knobs=Knobs(settings=False, **knobs),
        peak_rps=200.0,
        single_replicas=6,
        history=History(-86400.0, 1.1 * np.outer(300 * rate_rps(np.arange(-288, 0)), shares)),
        future=History(0.0, SLOTS.requests.astype(np.float64)),
        startup_s=60.0,
    )


def run(policy, fidelity, study, load=SLOTS):
    """On one server."""
    conditions = SimulationSettings(HORIZON_S, 1, startup_s=study.startup_s)
    if fidelity == "events":
        return simulate(policy, [TRACE], OBJECTIVES, conditions)
    return simulate_slots(policy, load, study, conditions)


@cache
def ours(fidelity):
    """The policy and its first run, with all knobs."""
    study = service()
    policy = dynawatt("dynawatt", study)
    return policy, run(policy, fidelity, study)


@pytest.mark.parametrize("fidelity", ["events", "slots"])
def test_it_saves_energy_and_keeps_the_slo(fidelity):
    study = service()
    single, (_, result) = run(static(SINGLE_POOL, study), fidelity, study), ours(fidelity)
    for each in (result, single):
        assert each.requests == len(TRACE)
        assert each.unfinished_requests == 0
        assert min(each.tally.ttft_attainment(), each.tally.tbt_attainment()) >= study.fraction
    assert result.energy_idling_j < 0.6 * single.energy_idling_j
    assert result.energy_off_j < 0.5 * single.energy_off_j
    assert result.refused_plans == 0
    assert result.reconfigurations > 0


@pytest.mark.parametrize("fidelity", ["events", "slots"])
def test_the_same_policy_twice_does_the_same(fidelity):
    policy, first = ours(fidelity)
    second = run(policy, fidelity, policy.study)
    assert second.energy_off_j == first.energy_off_j
    assert second.energy_idling_j == first.energy_idling_j
    assert (second.tally.ttft_met == first.tally.ttft_met).all()
    assert (second.series.clock_mhz == first.series.clock_mhz).all()
    assert second.initial == first.initial
    assert second.reconfigurations == first.reconfigurations


@pytest.mark.parametrize("knob", ["clock", "replicas", "governor", "packing"])
def test_every_knob_saves(knob):
    study = service(**{knob: False})
    without = run(dynawatt("dynawatt", study), "slots", study)
    _, result = ours("slots")
    assert without.energy_idling_j > 1.02 * result.energy_idling_j
    assert without.energy_off_j > 1.02 * result.energy_off_j
    if knob == "clock":
        assert without.clock_changes == 0 < result.clock_changes
    if knob == "replicas":
        assert without.reconfigurations == 0
        assert np.ptp(without.series.held_gpus) == 0


@given(st.lists(st.integers(0, 30_000), min_size=12, max_size=12), st.sampled_from(list(Foresight)))
@settings(max_examples=4, deadline=None)
def test_any_load_is_survived_within_the_inventory(counts, foresight):
    """Loads jump every five minutes, from nothing to what three replicas carry and back."""
    per_class = np.zeros((12, 9), np.int64)
    columns, lengths = [0, 4], np.array([[100, 650], [50, 125]])
    per_class[:, columns] = np.outer(counts, [1, 2]) // 3
    tokens = np.zeros((2, 9), np.int64)
    tokens[:, columns] = per_class.sum(axis=0)[columns] * lengths
    study = service(foresight=foresight)
    study.future = History(0.0, per_class.astype(np.float64))
    result = run(dynawatt("dynawatt", study), "slots", study, SlotLoad(HORIZON_S, per_class, *tokens))
    assert result.requests == per_class.sum()
    assert result.unfinished_requests == 0
    assert result.refused_plans == 0
    assert (result.series.held_gpus >= 1).all()
    assert (result.series.held_gpus <= GPUS).all()
