"""All policies over a week, slot by slot, with surfaces at hand: what a comparison costs, and what it says."""

import time
from dataclasses import replace

import pytest

from dynawatt.adapters.surface_cache import default_surface_dir
from dynawatt.adapters.surface_source import CachedSurfaces
from dynawatt.cli.simulate.options import DEFAULT_SLO, parse_slo
from dynawatt.cli.simulate.progress import ProgressBars
from dynawatt.cli.simulate.session import Conditions, prepare
from dynawatt.cli.simulate.study import StudyOptions
from dynawatt.simulation.policies.catalog import NAMES
from dynawatt.simulation.static_policies import SINGLE_POOL
from dynawatt.workload.builtin import built_in
from dynawatt.workload.trace import ScaleMode

pytestmark = pytest.mark.bench

PEAK_SERVERS = 8


@pytest.mark.parametrize("name", ["azure-2024-conv", "azure-2024-code"])
def test_a_week_of_all_policies(publish, name):
    week = Conditions(
        workload=built_in(name),
        model="llama-3.1-70b",
        gpu="h100-sxm",
        tensor_parallel=8,
        slo=parse_slo(DEFAULT_SLO),
        slo_text=DEFAULT_SLO,
        hours=None,
        seed=1,
        scale_mode=ScaleMode.SUPERPOSE,
        options=StudyOptions(peak_servers=PEAK_SERVERS),
    )
    with CachedSurfaces(default_surface_dir()) as surfaces, ProgressBars() as bars:
        # The same mix, burstiness and SLO: the same surfaces.
        prepare(replace(week, hours=1.0), surfaces).compare(NAMES, bars, tolerant=True)
        begin_s = time.perf_counter()
        found = prepare(week, surfaces).compare(NAMES, bars, tolerant=True)
        wall_s = time.perf_counter() - begin_s
    assert {SINGLE_POOL, "dynamollm", "dynawatt-deadline"} <= {result.name for result in found.results}
    assert all(result.requests == found.results[0].requests for result in found.results)
    policies = [
        {
            "name": run.result.name,
            "relative_to_single_pool": round(1 - found.saving(run.result), 4),
            "above_bound": round(found.above_bound(run.result), 4),
            "slo_met": run.result.slo_met,
            "build_s": round(run.build_s, 2),
            "wall_s": round(run.wall_s, 2),
        }
        for run in found.runs
    ]
    counted = [each for each in policies if each["slo_met"]]
    best = min(counted, key=lambda each: each["relative_to_single_pool"])
    publish(
        f"all_policies_{name}",
        f"a week of {len(policies)} policies in {wall_s:.0f} s; least energy within the SLO {best['name']}, "
        f"{best['relative_to_single_pool']:.3f} of single-pool",
        wall_s=round(wall_s, 1),
        sizing_s=round(found.sizing_wall_s, 1),
        peak_servers=PEAK_SERVERS,
        requests=found.results[0].requests,
        policies=policies,
        not_simulated={refusal.name: refusal.reason for refusal in found.refusals},
    )
