"""The compiled core against the plain engine, with all coefficients of a shipped profile and a published load."""

import math

import numpy as np
import pytest

from dynawatt.adapters.profile_files import find_replica
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.workload.builtin import built_in
from dynawatt.workload.objectives import LatencyObjectives

from .core.reference_fleet import ReferenceFleet

OBJECTIVES = LatencyObjectives(((256, 0.25), (1024, 0.4), (None, 2.0)), 0.1)


@pytest.mark.parametrize(
    ("clock_mhz", "kv_tokens", "threshold", "order", "hits"),
    [(1980, None, 0, "fcfs", 0.0), (1005, 20_000, 256, "deadline", 0.3), (1605, 20_000, 512, "priority", 0.0)],
)
def test_a_few_minutes_of_conversations(clock_mhz, kv_tokens, threshold, order, hits):
    replica = find_replica("llama-3.1-70b", "h100-sxm", 8)
    settings = EngineSettings(
        1024, 256, kv_tokens or replica.kv_capacity_tokens, threshold, QueueOrder(order), prefix_hit_ratio=hits
    )
    shape = ReplicaShape(replica, settings)
    load = next(built_in("azure-2023-conv").chunks(hours=1)).window(0.0, 200.0)
    core, plain = FleetCore([shape], OBJECTIVES, keep_requests=True), ReferenceFleet([shape], OBJECTIVES)
    for fleet in (core, plain):
        fleet.add_replica(0, clock_mhz=clock_mhz)
        fleet.advance(200.0, load)
        fleet.finish(math.inf)
    tally, requests = core.tally(), core.requests()
    assert tally.finished.sum() == len(load) > 500
    assert (tally.preemptions > 0) == (kv_tokens is not None)
    assert (tally.iterations, tally.preemptions) == (plain.iterations, plain.preemptions)
    np.testing.assert_allclose(requests.ttft_s, plain.ttft_s, rtol=0, atol=1e-9)
    np.testing.assert_allclose(requests.end_s, plain.end_s, rtol=0, atol=1e-9)
    np.testing.assert_allclose(tally.energy_j, plain.energy_j, rtol=1e-9)
