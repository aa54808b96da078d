"""A static fleet under a trace: equal replicas at one clock that are never changed."""

from dataclasses import dataclass
from math import inf

import numpy as np

from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.simulation.tally import Tally
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace


@dataclass(frozen=True, slots=True)
class StaticRun:
    """What a replay of a whole trace gave; every request counts."""

    tally: Tally
    end_s: float
    """When the last request ended, or the horizon if that is later."""

    @property
    def energy_j(self) -> float:
        """All GPUs of the replicas, from 0 to the end."""
        return float(self.tally.energy_j.sum())

    @property
    def ttft_attainment(self) -> float:
        """Fraction of all requests."""
        return self.tally.ttft_attainment()

    @property
    def tbt_attainment(self) -> float:
        """Fraction of all gaps."""
        return self.tally.tbt_attainment()

    @property
    def attainment(self) -> float:
        """The lower of both."""
        return min(self.ttft_attainment, self.tbt_attainment)


def replay_static(
    trace: Trace,
    shape: ReplicaShape,
    *,
    replicas: int,
    clock_mhz: float,
    objectives: LatencyObjectives,
    horizon_s: float = 0.0,
) -> StaticRun:
    """Run a trace through a static fleet to its last token, and on to the horizon."""
    core = FleetCore([shape], objectives)
    for _ in range(replicas):
        core.add_replica(0, clock_mhz=clock_mhz)
    core.advance(float(np.nextafter(trace.span_s, np.inf)), trace)
    core.finish(inf)
    core.advance(max(core.now_s, horizon_s))
    return StaticRun(core.tally(), core.now_s)
