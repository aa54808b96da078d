"""Curves and states to plan with, simple enough to work out by hand."""

from dataclasses import dataclass
from math import inf

import numpy as np

from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.curves import shape_curve
from dynawatt.planning.demand import DemandForecast
from dynawatt.planning.service import ServiceState

RELEASED_W = 70.0
IDLE_W = 110.0


@dataclass
class Profile:
    """As much of a ReplicaProfile as a curve asks for."""

    parked_w: float = 80.0

    def loaded_idle_w(self, clock_mhz):
        return self.parked_w


def row(capacity_rps, idle_w, busy_w):
    if capacity_rps == 0:
        return [SurfacePoint(rate, 0.5, 1, 9.0, 0.01, busy_w) for rate in (0.0, 1.0)]
    good = [SurfacePoint(rate, 1, 1, 0.1, 0.01, watts) for rate, watts in ((0.0, idle_w), (capacity_rps, busy_w))]
    return [*good, SurfacePoint(capacity_rps + 1e-6, 0.5, 0.5, 9.0, 1.0, busy_w)]


def surface(gpus=4, capacities=((1000, 5.0), (2000, 10.0)), watts=((80, 225), (110, 500))):
    """By default a replica of 4 GPUs carries 5 req/s at 1000 MHz for 900 W and 10 at 2000 MHz for 2000 W."""
    rows = {
        clock: row(rps, gpus * idle_w, gpus * busy_w)
        for (clock, rps), (idle_w, busy_w) in zip(capacities, watts, strict=True)
    }
    return Surface(gpus, RELEASED_W, IDLE_W, rows)


def curve(name="a", gpus=4, startup_s=120.0, most_replicas=6, **changes):
    found = surface(gpus, **changes)
    return shape_curve(name, found, Profile(), attainment=0.99, startup_s=startup_s, most_replicas=most_replicas)


def demand(*expected_rps, high=1.2, slot_s=300.0):
    expected = np.array(expected_rps, dtype=float)
    return DemandForecast(expected, expected * high, slot_s)


def state(*curves, ready=None, starting=None, rates=(8.0,) * 6, high=1.2, present_rps=0.0, since_change_s=inf, **rest):
    curves = curves or (curve(),)
    return ServiceState(
        curves={each.name: each for each in curves},
        ready=ready or {},
        starting=starting or {},
        demand=demand(*rates, high=high),
        present_rps=present_rps,
        since_change_s=since_change_s,
        **rest,
    )
