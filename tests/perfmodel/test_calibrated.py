"""A replica with factors: all seconds and all watts are scaled, wherever they come from."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.adapters.profile_files import find_replica
from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

REPLICA = find_replica("llama-3.1-70b", "h100-sxm", 8)
SETTINGS = EngineSettings(1024, 64, 100_000)
ANY = LatencyObjectives(((None, 2.0),), 0.1)
factors = st.floats(0.5, 2.0)
batches = st.builds(
    lambda requests, context, tokens, before: Batch(
        requests, requests * context, tokens if requests else max(1, tokens), chunk_pairs(tokens, before)
    ),
    st.integers(0, 64),
    st.integers(1, 8000),
    st.integers(0, 4096),
    st.integers(0, 4096),
)


@given(factors, factors, batches, st.sampled_from([810, 1305, 1980]))
def test_every_iteration_is_scaled(time_factor, power_factor, batch, clock_mhz):
    scaled = REPLICA.calibrated(time_factor=time_factor, power_factor=power_factor)
    assert scaled.step_s(batch, clock_mhz) == pytest.approx(time_factor * REPLICA.step_s(batch, clock_mhz))
    assert scaled.power_w(batch, clock_mhz) == pytest.approx(power_factor * REPLICA.power_w(batch, clock_mhz))


def test_idling_is_scaled_and_released_gpus_are_not_the_replicas():
    scaled = REPLICA.calibrated(power_factor=1.2)
    assert scaled.loaded_idle_w(810) == 1.2 * REPLICA.loaded_idle_w(810) == scaled.at_clock(810).idle_w
    assert scaled.released_w == REPLICA.released_w


def test_factors_replace_each_other():
    there = REPLICA.calibrated(time_factor=1.2).calibrated(power_factor=0.9)
    assert (there.time_factor, there.power_factor) == (1.0, 0.9)
    assert there.name == REPLICA.name


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_factors_that_are_none_are_refused(bad):
    for name in ("time_factor", "power_factor"):
        with pytest.raises(InvalidInputError, match=f"{name} {bad} of llama"):
            REPLICA.calibrated(**{name: bad})


def test_the_fleet_simulator_follows():
    """Requests that come f times as slowly to replicas f times as slow do the same, f times as slowly."""
    found = {}
    for time_factor, power_factor in ((1.0, 1.0), (1.25, 0.8)):
        replica = REPLICA.calibrated(time_factor=time_factor, power_factor=power_factor)
        core = FleetCore([ReplicaShape(replica, SETTINGS)], ANY)
        core.add_replica(0, clock_mhz=1980)
        rng = np.random.default_rng(1)
        arrival_s = np.sort(rng.uniform(0, 100, 300)) * time_factor
        core.advance(101.0 * time_factor, Trace(arrival_s, rng.integers(50, 3000, 300), rng.integers(1, 200, 300)))
        core.finish(1e4)
        found[time_factor] = core.tally()
    own, scaled = found[1.0], found[1.25]
    assert scaled.iterations == own.iterations
    assert scaled.gap_sum_s == pytest.approx(1.25 * own.gap_sum_s)
    assert scaled.ttft_sum_s == pytest.approx(1.25 * own.ttft_sum_s)
    assert scaled.energy_j == pytest.approx(1.25 * 0.8 * own.energy_j, rel=1e-6)


def question(**factors):
    mix = LengthMix(np.full(50, 800), np.full(50, 60))
    replica = REPLICA.calibrated(**factors)
    return SurfaceQuestion(replica, SETTINGS, mix, 1.0, ANY, (0.99,), (1005, 1980), (1, 2), requests=300)


def test_surfaces_follow_and_have_fingerprints_of_their_own():
    marks = {
        question(time_factor=time_factor, power_factor=power_factor).fingerprint()
        for time_factor in (1.0, 1.05)
        for power_factor in (1.0, 1.05)
    }
    assert len(marks) == 4
    own, slow = (build_surface(question(time_factor=factor)) for factor in (1.0, 1.3))
    assert slow.capacity_rps(1980, 0.99) < own.capacity_rps(1980, 0.99) / 1.2


def test_another_power_factor_needs_no_other_surface():
    built, scaled = build_surface(question(power_factor=1.15)), build_surface(question()).drawing(1.15)
    assert scaled.loaded_idle_w == pytest.approx(built.loaded_idle_w)
    assert scaled.released_w == built.released_w
    for rows, others in ((built.points, scaled.points), (built.shared_points[2], scaled.shared_points[2])):
        for clock_mhz, row in rows.items():
            for point, other in zip(row, others[clock_mhz], strict=True):
                assert other.power_w == pytest.approx(point.power_w, rel=1e-9)
                assert replace(other, power_w=0.0) == replace(point, power_w=0.0)
