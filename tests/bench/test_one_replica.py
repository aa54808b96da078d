"""Requests per second of one replica from a light load to one it cannot carry, beside the plain engine."""

import math

import pytest

from dynawatt.simulation.engine import EngineRequest, ReplicaEngine
from dynawatt.simulation.fleet_core import FleetCore
from dynawatt.workload.builtin import built_in
from dynawatt.workload.trace import joined

from .loads import OBJECTIVES, best_of, shape

pytestmark = pytest.mark.bench

RATES_RPS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
SLO = 0.99
PLAIN_S = 120.0
"""Of the load that the plain engine simulates."""


def test_one_replica_under_load(publish):
    what = shape()
    run_core(load(1.0).window(0.0, 60.0), what)  # compiles
    points = [point(rate_rps, what) for rate_rps in RATES_RPS]
    carried = [each for each in points if min(each["ttft_attainment"], each["tbt_attainment"]) >= SLO]
    highest = carried[-1]
    trace = load(highest["rate_rps"]).window(0.0, PLAIN_S)
    finished, plain_s = best_of(1, lambda: run_plainly(trace, what))
    assert finished == len(trace)
    publish(
        "one_replica",
        f"{highest['requests_per_s']:.0f} requests/s ({highest['iterations_per_s']:.2e} iterations/s) at "
        f"{highest['rate_rps']} requests/s, the highest load within the SLO; "
        f"the plain engine {len(trace) / plain_s:.0f} requests/s",
        shape=what.replica.name,
        highest_rate_within_slo_rps=highest["rate_rps"],
        requests_per_s=highest["requests_per_s"],
        plain_engine_requests_per_s=len(trace) / plain_s,
        loads=points,
    )


def load(rate_rps):
    workload = built_in("azure-2023-conv")
    return joined(list(workload.chunks(rate_scale=rate_rps / workload.mean_rps)))


def point(rate_rps, what):
    trace = load(rate_rps)
    tally, wall_s = best_of(5, lambda: run_core(trace, what))
    assert tally.finished.sum() == len(trace)
    return {
        "rate_rps": rate_rps,
        "requests": len(trace),
        "wall_s": wall_s,
        "requests_per_s": len(trace) / wall_s,
        "iterations_per_s": tally.iterations / wall_s,
        "ttft_attainment": tally.ttft_attainment(),
        "tbt_attainment": tally.tbt_attainment(),
    }


def run_core(trace, what):
    core = FleetCore([what], OBJECTIVES)
    core.add_replica(0, clock_mhz=what.replica.gpu.default_clock_mhz)
    core.advance(trace.span_s + 1.0, trace)
    core.finish(math.inf)
    return core.tally()


def run_plainly(trace, what):
    """The same by ``simulation.engine``; returns how many requests ended."""
    engine = ReplicaEngine(what.settings, what.replica)
    clock_mhz = what.replica.gpu.default_clock_mhz
    rows = list(zip(trace.arrival_s, trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    now_s, finished, arrived = 0.0, 0, 0
    while finished < len(rows):
        while arrived < len(rows) and rows[arrived][0] <= now_s:
            engine.submit(EngineRequest(str(arrived), *rows[arrived]))
            arrived += 1
        iteration = engine.start_iteration(now_s, clock_mhz)
        if iteration is None:
            now_s = rows[arrived][0]
        else:
            now_s += iteration.duration_s
            finished += len(engine.finish_iteration(iteration))
    return finished
