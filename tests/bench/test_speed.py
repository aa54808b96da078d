import time

import pytest

from dynawatt.adapters.trace_files import read_trace, write_trace
from dynawatt.perfmodel.catalog import replica_models
from dynawatt.planning.fleet import FleetPlanner
from dynawatt.planning.plan import ServiceState
from dynawatt.simulation.engine import EngineSettings
from dynawatt.simulation.fleet import replay
from dynawatt.simulation.surfaces import build_surface, clock_grid
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.synthetic import azure_conversation_mix, rising_and_falling

pytestmark = pytest.mark.bench

MODELS = replica_models("meta-llama/Llama-3.1-70B-Instruct", "h100-sxm", 8)
SETTINGS = EngineSettings(1024, 1024, MODELS.kv_capacity_tokens)
OBJECTIVES = LatencyObjectives(((256, 0.25), (1024, 0.4), (None, 2.0)), 0.1)


@pytest.fixture(scope="module")
def trace():
    return rising_and_falling(duration_s=600, trough_rps=7.0, peak_rps=27.0, seed=1)


def timed(work):
    started_s = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started_s


def test_replay(figures, trace):
    result, wall_s = timed(lambda: replay(trace, MODELS, SETTINGS, replicas=4, clock_mhz=1980, objectives=OBJECTIVES))
    figures["replay_of_4_replicas"] = {
        "requests": len(trace),
        "requests_per_s": len(trace) / wall_s,
        "virtual_over_wall_time": result.end_s / wall_s,
    }


def test_surface_and_plan(figures):
    clocks = clock_grid(MODELS, 800)
    mix = azure_conversation_mix(512, seed=0)
    surface, build_s = timed(lambda: build_surface(MODELS, SETTINGS, mix, OBJECTIVES, clocks))
    rows = [surface.points, *surface.shared_points.values()]
    state = ServiceState(surface, 20.0, 18.0, 3, 3, 1, 40, 0.99, 180.0)
    plans, plan_s = timed(lambda: [FleetPlanner().plan({"service": state}) for _ in range(20)])
    figures["surface"] = {"points": sum(len(row) for fleet in rows for row in fleet.values()), "build_s": build_s}
    figures["plan_of_40_replicas"] = {"plan_s": plan_s / len(plans), "clocks": len(clocks)}


def test_reading_a_trace(figures, trace, tmp_path):
    write_trace(tmp_path / "trace.csv", trace)
    found, wall_s = timed(lambda: read_trace(tmp_path / "trace.csv"))
    figures["read_trace"] = {"rows": len(found), "rows_per_s": len(found) / wall_s}
