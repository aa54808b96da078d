"""All surfaces of a service: three tensor-parallel degrees, seven clocks, eight loads, 3,000 requests at each point."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import pytest

from dynawatt.simulation.operating_point import saturation_rps, simulate_point, unit_load
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface, clock_grid
from dynawatt.workload.builtin import built_in

from .loads import OBJECTIVES, shape

pytestmark = pytest.mark.bench

WORKERS = 2
DEGREES = (8, 4, 2)  # the longest task first
LOADS = (0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the rate that saturates a replica."""
REQUESTS = 3000
WORKLOAD = built_in("azure-2023-conv")
MIX = WORKLOAD.mix(4096)


def test_surface_set(publish):
    clocks_mhz = clock_grid(shape().replica, 800)
    assert len(clocks_mhz) == 7
    grid_row(8, clocks_mhz[-1])  # compiles; the workers are forks of this process
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("fork")) as workers:
        started_s = time.perf_counter()
        points = sum(workers.map(grid_row, *zip(*product(DEGREES, clocks_mhz), strict=True)))
        grid_s = time.perf_counter() - started_s
        started_s = time.perf_counter()
        built = list(workers.map(surface, DEGREES, [tuple(clocks_mhz)] * len(DEGREES)))
        surfaces_s = time.perf_counter() - started_s
    assert points == len(DEGREES) * len(clocks_mhz) * len(LOADS)
    publish(
        "surface_set",
        f"{points} points of {REQUESTS} requests in {grid_s:.2f} s on {WORKERS} processes; {sum(built)} points for "
        f"fleets of 1, 2 and 4 with bracketed capacities in {surfaces_s:.1f} s",
        tensor_parallel=DEGREES,
        clocks_mhz=clocks_mhz,
        points=points,
        requests_per_point=REQUESTS,
        processes=WORKERS,
        grid_s=grid_s,
        bracketed_surfaces_points=sum(built),
        bracketed_surfaces_s=surfaces_s,
    )


def grid_row(tensor_parallel, clock_mhz):
    """One clock of the grid; returns how many points it has."""
    what = shape(tensor_parallel)
    load = unit_load(MIX, 1.0, REQUESTS, seed=1)
    limit_rps = saturation_rps(what, MIX, clock_mhz)
    points = [
        simulate_point(what, OBJECTIVES, load, each * limit_rps, replicas=1, clock_mhz=clock_mhz) for each in LOADS
    ]
    return sum(point.power_w > 0 for point in points)


def surface(tensor_parallel, clocks_mhz):
    """What the operator builds for one shape; returns how many points it has."""
    what = shape(tensor_parallel)
    question = SurfaceQuestion(what.replica, what.settings, MIX, 1.0, OBJECTIVES, (0.99,), clocks_mhz)
    found = build_surface(question)
    fleets = [found.points, *found.shared_points.values()]
    return sum(len(row) for fleet in fleets for row in fleet.values())
