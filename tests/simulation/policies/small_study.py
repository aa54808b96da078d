"""A service of the small replica, ready to build policies from."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from dynawatt.simulation.fleet_core import ReplicaState
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.study import Study
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

from ..small_replica import small_replica

MIX = LengthMix(np.array([100, 400, 900, 1800]), np.array([50, 150, 100, 200]))
OBJECTIVES = LatencyObjectives(((256, 0.25), (None, 1.0)), 0.05)


@dataclass
class OneSurface:
    """Gives the same answer to every question."""

    surface: object = None

    def get_all(self, questions):
        return [self.surface for _ in questions]


def settings(replica, order):
    return EngineSettings(1024, 64, 60_000, queue_order=order)


def small_study(**changes):
    replica = small_replica()
    values = {
        "profiles": {1: replica},
        "base_settings": settings,
        "tensor_parallel": 1,
        "mix": MIX,
        "cv": 1.0,
        "objectives": OBJECTIVES,
        "fraction": 0.99,
        "peak_rps": 10.0,
        "surfaces": OneSurface(),
        "servers": 1,
        "single_replicas": 4,
        "single_settings": settings(replica, "fcfs"),
        **changes,
    }
    return Study(**values)


def poisson(rate_rps, start_s, end_s, seed=0):
    """Requests of the mix."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(rate_rps * (end_s - start_s))
    pick = rng.integers(0, len(MIX.input_tokens), count)
    return Trace(np.sort(rng.uniform(start_s, end_s, count)), MIX.input_tokens[pick], MIX.output_tokens[pick])


class Seen:
    """A FleetView with just what a test sets."""

    def __init__(self, serving=1, starting=0, waiting=0, running=0, tally=None, in_transition=False):
        states = [ReplicaState.SERVING] * serving + [ReplicaState.STARTING] * starting + [ReplicaState.GONE]
        self.state = np.array(states)
        self.in_transition = in_transition
        self._values = {"waiting": waiting, "running": running}
        self._tally = tally

    def snapshot(self):
        # The gauges' totals fall on the first replica, which serves.
        columns = {name: np.zeros(len(self.state), np.int64) for name in self._values}
        for name, total in self._values.items():
            columns[name][0] = total
        return SimpleNamespace(state=self.state, **columns)

    def tally(self):
        return self._tally
