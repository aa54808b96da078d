"""Seconds from the start of a process to its first result: with an empty JIT cache, and with the one this left."""

import os
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.bench

FIRST_RESULT = """
import numpy as np
from dynawatt.adapters.profile_files import find_replica
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

replica = find_replica("llama-3.1-70b", "h100-sxm", 8)
shape = ReplicaShape(replica, EngineSettings(1024, 256, replica.kv_capacity_tokens))
core = FleetCore([shape], LatencyObjectives(((None, 1.0),), 0.1))
core.add_replica(0, clock_mhz=replica.gpu.default_clock_mhz)
core.advance(1.0, Trace(np.array([0.5]), np.array([100]), np.array([10])))
core.finish(60.0)
assert core.tally().finished.sum() == 1
"""


def test_second_start(publish, tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first_s, *others_s = [start_s(environment) for _ in range(4)]
    publish(
        "second_start",
        f"first result {min(others_s):.2f} s after the start of a process, {first_s:.1f} s when all has to be compiled",
        second_start_s=min(others_s),
        first_start_s=first_s,
    )


def start_s(environment):
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", FIRST_RESULT], env=environment, check=True)
    return time.perf_counter() - started_s
