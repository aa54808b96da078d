"""Both fidelities on the same 24 hours: what slots, read off surfaces, give up against every iteration.

Run with DYNAWATT_BENCH_HOURS=2 it is over in a minute or two.
"""

import os
from dataclasses import replace
from math import isfinite

import pytest

from dynawatt.adapters.surface_cache import default_surface_dir
from dynawatt.adapters.surface_source import CachedSurfaces
from dynawatt.cli.simulate.comparison import Fidelity
from dynawatt.cli.simulate.loads import find_workload
from dynawatt.cli.simulate.options import DEFAULT_SLO, parse_slo
from dynawatt.cli.simulate.progress import ProgressBars
from dynawatt.cli.simulate.session import Conditions, prepare
from dynawatt.cli.simulate.study import StudyOptions
from dynawatt.simulation.policies.catalog import BUILDERS
from dynawatt.workload.trace import ScaleMode

from .loads import GPU, MODEL

pytestmark = pytest.mark.bench

WORKLOAD = "azure-2024-conv"
HOURS = float(os.environ.get("DYNAWATT_BENCH_HOURS", "24"))
PEAK_SERVERS = 8
AGREEMENT = 0.05
"""Of energies, both ways of counting released GPUs."""

CONDITIONS = Conditions(
    workload=find_workload(None, WORKLOAD, None),
    model=MODEL,
    gpu=GPU,
    tensor_parallel=8,
    slo=parse_slo(DEFAULT_SLO),
    slo_text=DEFAULT_SLO,
    hours=HOURS,
    seed=1,
    scale_mode=ScaleMode.SUPERPOSE,
    options=StudyOptions(peak_servers=PEAK_SERVERS),
)


def test_energies_agree_for_every_causal_policy(publish):
    with ProgressBars() as bars, CachedSurfaces(default_surface_dir(), progress=bars.models) as surfaces:
        session = prepare(CONDITIONS, surfaces)
        of = {
            fidelity: replace(session, question=replace(session.question, fidelity=fidelity)) for fidelity in Fidelity
        }
        compared = {
            name: {fidelity: each.compare([name], bars).runs[0] for fidelity, each in of.items()} for name in BUILDERS
        }
    figures = {name: figures_of(runs[Fidelity.EVENTS], runs[Fidelity.SLOTS]) for name, runs in compared.items()}
    worst = max(figures, key=lambda name: error(figures[name]))
    publish(
        "fidelities",
        f"slots are at most {error(figures[worst]):.1%} off in energy ({worst}), over {len(figures)} policies",
        load=WORKLOAD,
        hours=HOURS,
        peak_servers=PEAK_SERVERS,
        policies=figures,
    )
    assert {name: error(found) for name, found in figures.items() if error(found) > AGREEMENT} == {}


def figures_of(events, slots):
    found = {}
    for fidelity, run in (("events", events), ("slots", slots)):
        tally = run.result.tally
        found[fidelity] = {
            "energy_off_j": run.result.energy_off_j,
            "energy_idling_j": run.result.energy_idling_j,
            "ttft_attainment": tally.ttft_attainment(),
            "tbt_attainment": tally.tbt_attainment(),
            "p99_ttft_s": known(run.result.ttft_quantile_s(0.99)),
            "p99_tbt_s": known(tally.tbt_quantile_s(0.99)),
            "reconfigurations": run.result.reconfigurations,
            "unfinished_requests": run.result.unfinished_requests,
            "wall_s": run.wall_s,
        }
    for key in ("energy_off_j", "energy_idling_j"):
        found[key.replace("_j", "_error")] = found["slots"][key] / found["events"][key] - 1
    return found


def known(value):
    return value if isfinite(value) else None


def error(figures):
    return max(abs(figures["energy_off_error"]), abs(figures["energy_idling_error"]))
