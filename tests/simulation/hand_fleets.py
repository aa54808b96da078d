"""Fleets of replicas whose costs can be done in one's head, and requests for them."""

import numpy as np

from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

from .core.replicas import HandReplica

REPLICA = HandReplica()
SETTINGS = EngineSettings(max_num_batched_tokens=2048, max_num_seqs=64, kv_capacity_tokens=100_000)
OBJECTIVES = LatencyObjectives(((256, 0.25), (None, 1.0)), 0.05)


def fleet(replicas=1, *, settings=SETTINGS, clock_mhz=2000.0, **options):
    core = FleetCore([ReplicaShape(REPLICA, settings)], OBJECTIVES, keep_requests=True, **options)
    for _ in range(replicas):
        core.add_replica(0, clock_mhz=clock_mhz)
    return core


def trace(*rows):
    """Rows of (arrival, input, output)."""
    return Trace(*(np.array(column) for column in zip(*rows, strict=True)))


def poisson(seed, rate_rps, count):
    rng = np.random.default_rng(seed)
    return Trace(
        np.cumsum(rng.exponential(1 / rate_rps, count)),
        rng.integers(1, 3000, count),
        rng.geometric(1 / 150, count),
    )


def load_of(core):
    snapshot = core.snapshot()
    return (snapshot.running + snapshot.waiting).tolist()


def arrive(core, *lengths, after_s=0.001):
    """Requests of these (input, output) tokens, all at once."""
    core.advance(core.now_s + after_s, trace(*((core.now_s, *each) for each in lengths)))
