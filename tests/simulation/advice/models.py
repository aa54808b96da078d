"""Fleets whose watts and capacities are round figures, without any simulation."""

import numpy as np

from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.curves import shape_curve
from dynawatt.simulation.advice.course import FleetModel
from dynawatt.simulation.advice.load import ServiceLoad
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.settings import EngineSettings
from dynawatt.workload.mix import LengthMix

from ..small_replica import small_replica

REPLICA = small_replica()
RELEASED_W = REPLICA.released_w
MIX = LengthMix(np.array([100, 800]), np.array([50, 90]))


def row(capacity_rps, watts):
    """Everything is in time up to the capacity, and nothing at twice that; watts rise by half towards it."""
    return (
        SurfacePoint(0.0, 1.0, 1.0, 0.1, 0.01, watts),
        SurfacePoint(capacity_rps, 1.0, 1.0, 0.1, 0.01, 1.5 * watts),
        SurfacePoint(2 * capacity_rps, 0.0, 0.0, 9.0, 9.0, 2 * watts),
    )


def fleet(rows=None, most=10, startup_s=300.0):
    """At 1980 MHz a replica carries 10 requests/s, at 900 MHz 5 of them for half the watts."""
    rows = rows or {900: row(5.0, 200.0), 1980: row(10.0, 400.0)}
    surface = Surface(1, RELEASED_W, 110.0, rows)
    curve = shape_curve("x", surface, REPLICA, attainment=0.99, startup_s=startup_s, most_replicas=most)
    return FleetModel(ReplicaShape(REPLICA, EngineSettings(2048, 64, 100_000)), surface, curve)


def load_of(rates_rps, last_s=300.0):
    widths = np.full(len(rates_rps), 300.0)
    widths[-1] = last_s
    return ServiceLoad(np.array(rates_rps, dtype=float), widths, MIX, 1.0)


def counts(count, load):
    return np.full(len(load.rate_rps), count)
