import subprocess
import sys

import numpy as np

from dynawatt.simulation.core import batching, events, jit, state
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

from .replicas import HandReplica

RUN = """
import numpy as np
from dynawatt.simulation.core import events, state
core = state.new_core(state.records(state.Shape, 1), np.ones((1, 9), bool), 1.0)
events.run_all(core, 0.0)
print(sum(events.run_all.stats.cache_hits.values()), sum(events.run_all.stats.cache_misses.values()))
"""


def use_all():
    core = FleetCore([ReplicaShape(HandReplica(), EngineSettings(64, 8, 1600))], LatencyObjectives(((None, 1.0),), 1.0))
    core.add_replica(0, clock_mhz=2000.0)
    core.add_replica(0, clock_mhz=2000, ready_s=1)
    core.advance(2, Trace(np.zeros(1), np.full(1, 5), np.full(1, 5)))
    core.set_clock(0, 800)
    core.set_open(0, False)
    core.reroute_waiting(0)
    core.set_shares(np.ones((1, 9), np.float32))
    core.advance(3, Trace(np.full(1, 2.5), np.full(1, 5), np.full(1, 5)))
    core.set_shares(np.ones((9, 1)).T)
    core.add_replica(0, clock_mhz=2000.0)
    core.finish(5)
    core.tally()
    return (
        events.arrive,
        events.run_all,
        events.settle_all,
        events.change_costs,
        events.place_waiting,
        events.reroute_waiting,
        events.add_under_way,
    )


def test_a_second_process_compiles_nothing():
    use_all()
    found = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, check=True).stdout
    assert found.split() == ["1", "0"]


def test_entry_points_are_compiled_for_one_signature_only():
    assert [len(entry_point.signatures) for entry_point in use_all()] == [1] * 7


def test_the_cache_key_covers_all_compiled_functions(monkeypatch):
    before = jit._fingerprint()
    assert jit._fingerprint() == before
    monkeypatch.setattr(jit, "_compiled", jit._compiled[:-1])
    assert jit._fingerprint() != before


def test_a_constant_of_a_compiled_function_is_in_the_key(monkeypatch):
    before = jit._fingerprint()
    monkeypatch.setattr(batching, "DEADLINE", state.PRIORITY)
    assert jit._fingerprint() != before


def test_runs_uncached_where_no_folder_is_writable(monkeypatch):
    class NoCache:
        def __init__(self, function):
            raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(jit, "_Cache", NoCache)
    monkeypatch.setattr(jit, "_compiled", [])

    @jit.entry_point
    def double(number):
        return 2 * number

    assert double(21) == 42
