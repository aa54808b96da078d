"""What the operator does every five minutes, for one service and for many, and what it does with a trace once."""

from statistics import median

import numpy as np
import pytest

from dynawatt.adapters.profile_files import find_replica
from dynawatt.adapters.trace_files import read_trace, write_trace
from dynawatt.planning.curves import shape_curve
from dynawatt.planning.demand import DemandForecast
from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.planning.service import ServiceState
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface, clock_grid
from dynawatt.workload.builtin import built_in

from .loads import GPU, OBJECTIVES, best_of, conversation_hour

pytestmark = pytest.mark.bench

MODEL = "llama-3.1-8b"
TENSOR_PARALLEL = (4, 2, 1)
MOST_GPUS = 160
SLOTS = 24
SERVICES, NODES = 200, 250


@pytest.fixture(scope="module")
def curves():
    """Of three shapes: surfaces are at hand when plans are made, so that building them does not count."""
    mix = built_in("azure-2023-conv").mix(4096)
    found = {}
    for tensor_parallel in TENSOR_PARALLEL:
        replica = find_replica(MODEL, GPU, tensor_parallel)
        settings = EngineSettings(1024, 256, replica.kv_capacity_tokens)
        clocks_mhz = tuple(clock_grid(replica, 800))
        question = SurfaceQuestion(replica, settings, mix, 1.0, OBJECTIVES, (0.9935,), clocks_mhz, (1, 4), 2000)
        name = f"tp{tensor_parallel}"
        found[name] = shape_curve(
            name,
            build_surface(question),
            replica,
            attainment=0.9935,
            startup_s=240.0,
            most_replicas=MOST_GPUS // tensor_parallel,
        )
    return found


def state(curves, shape, replicas, rates_rps):
    demand = DemandForecast(rates_rps, 1.2 * rates_rps)
    return ServiceState(curves, {shape: replicas}, {}, demand, float(rates_rps[0]))


def test_plan_of_one_service(publish, curves):
    rates_rps = curves["tp4"].capacity_rps(12) * (0.5 + 0.3 * np.sin(np.arange(SLOTS) / 8))
    what = state(curves, "tp4", 10, rates_rps)
    times_s = []
    for _ in range(21):
        plan, took_s = best_of(1, lambda: UnitCommitmentPlanner().plan({"service": what}, [8] * NODES))
        times_s.append(took_s)
    assert plan["service"].feasible
    publish(
        "planner",
        f"one service, {len(curves)} shapes up to {MOST_GPUS} replicas, {SLOTS} slots: "
        f"{1000 * median(times_s):.1f} ms (median)",
        shapes=len(curves),
        most_replicas=MOST_GPUS,
        slots=SLOTS,
        plan_s=median(times_s),
    )


@pytest.mark.parametrize(("case", "used", "busy"), [("roomy", 0.7, (0.4, 0.8)), ("scarce", 1.02, (0.7, 1.0))])
def test_plan_of_services_that_share_nodes(publish, curves, case, used, busy):
    """The fleets that are there use this part of the GPUs; the loads of most services are about to change."""
    rng = np.random.default_rng(7)
    shapes = rng.choice(list(curves), SERVICES, p=(0.3, 0.3, 0.4))
    sizes = rng.lognormal(0.0, 0.8, SERVICES)
    gpus = np.array([curves[shape].gpus for shape in shapes])
    replicas = np.maximum(1, np.floor(sizes / sizes.sum() * used * 8 * NODES / gpus)).astype(int)
    free, states = [8] * NODES, {}
    for number in np.argsort(-gpus):
        shape, count = shapes[number], int(replicas[number])
        for _ in range(count):
            fitting = [node for node, left in enumerate(free) if left >= gpus[number]]
            free[min(fitting, key=free.__getitem__)] -= int(gpus[number])
        wave = np.sin(2 * np.pi * (rng.uniform() + np.arange(SLOTS) * 300 / 86400))
        load = (1 + 0.5 * wave) / (1 + 0.5 * wave[0]) * rng.uniform(*busy)
        states[f"service-{number}"] = state(curves, shape, count, curves[shape].capacity_rps(count) * load)
    decision, took_s = best_of(1, lambda: UnitCommitmentPlanner().decide(states, free))
    changed = sum(plan.replicas != states[name].ready.get(plan.shape) for name, plan in decision.plans.items())
    publish(
        f"planner_shared_{case}",
        f"{SERVICES} services on {8 * NODES} GPUs, {sum(free)} free: {took_s:.1f} s, gap {decision.gap:.2%} "
        f"({decision.found_by}), {changed} changes",
        services=SERVICES,
        gpus=8 * NODES,
        free_gpus=sum(free),
        plan_s=took_s,
        gap=decision.gap,
        found_by=decision.found_by,
        changes=changed,
        short=sum(not plan.feasible for plan in decision.plans.values()),
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
