"""What the operator does every five minutes, and what it does with a trace once."""

import pytest

from dynawatt.adapters.trace_files import read_trace, write_trace
from dynawatt.planning.fleet import FleetPlanner
from dynawatt.planning.plan import ServiceState
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface, clock_grid
from dynawatt.workload.builtin import built_in

from .loads import OBJECTIVES, best_of, conversation_hour, shape

pytestmark = pytest.mark.bench

MOST_REPLICAS = 40


def test_plan(publish):
    what = shape()
    clocks_mhz = tuple(clock_grid(what.replica, 800))
    mix = built_in("azure-2023-conv").mix(4096)
    surface = build_surface(SurfaceQuestion(what.replica, what.settings, mix, 1.0, OBJECTIVES, (0.99,), clocks_mhz))
    state = ServiceState(
        surface=surface,
        demand_rps=20.0,
        present_demand_rps=18.0,
        ready_replicas=3,
        desired_replicas=3,
        min_replicas=1,
        max_replicas=MOST_REPLICAS,
        attainment=0.99,
        startup_s=180.0,
    )
    plan, plan_s = best_of(20, lambda: FleetPlanner().plan({"service": state}))
    assert plan
    publish(
        "planner",
        f"a plan of up to {MOST_REPLICAS} replicas at {len(clocks_mhz)} clocks in {1000 * plan_s:.1f} ms",
        most_replicas=MOST_REPLICAS,
        clocks=len(clocks_mhz),
        plan_s=plan_s,
    )


def test_reading_a_trace(publish, tmp_path):
    name, trace = conversation_hour()
    write_trace(tmp_path / "trace.csv", trace)
    found, wall_s = best_of(3, lambda: read_trace(tmp_path / "trace.csv"))
    assert len(found) == len(trace)
    publish(
        "read_trace",
        f"{len(found)} rows in {wall_s:.3f} s, {len(found) / wall_s:.0f} rows/s",
        load=name,
        rows=len(found),
        rows_per_s=len(found) / wall_s,
    )
