"""``dynawatt simulate``: replays a load on a simulated fleet under one policy after another."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from dynawatt.accounting.tariff import WORLD_CARBON_G_PER_KWH, Tariff
from dynawatt.adapters.surface_cache import default_surface_dir
from dynawatt.adapters.surface_source import CachedSurfaces
from dynawatt.cli.simulate.ablation import DEFAULT_ABLATED, ablate, ablated_policy
from dynawatt.cli.simulate.comparison import Comparison, Fidelity
from dynawatt.cli.simulate.loads import find_workload
from dynawatt.cli.simulate.options import DEFAULT_SLO, ClassCuts, check_outputs, chosen, parse_slo, write_output
from dynawatt.cli.simulate.progress import ProgressBars
from dynawatt.cli.simulate.results_json import to_json
from dynawatt.cli.simulate.session import Conditions, prepare
from dynawatt.cli.simulate.study import StudyOptions
from dynawatt.cli.simulate.table import result_view
from dynawatt.simulation.policies.catalog import ALL, NAMES
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.static_policies import SINGLE_POOL
from dynawatt.workload.trace import ScaleMode

_LEAST_WIDTH: Final = 192
"""Of the tables, in characters."""
_MOST: Final = 10_000
"""Replicas or servers: more is a slip of the keyboard, and would take all memory."""


def simulate(
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Replay this: CSV with TIMESTAMP,ContextTokens,GeneratedTokens."),
    ] = None,
    workload: Annotated[
        str | None, typer.Option(metavar="NAME", help="Replay a built-in workload, such as azure-2024-conv.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model, as vLLM is given it, or the name of a profile.")] = "llama-3.1-70b",
    gpu: Annotated[str, typer.Option(help="GPU product of all servers.")] = "h100-sxm",
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,..",
            help=f"May be repeated: {ALL}, or of {', '.join(NAMES)}. {SINGLE_POOL} is simulated in any case.",
        ),
    ] = None,
    slo: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Percentile, TTFT objectives in ms by longest input (the last without one), TBT objective in ms.",
        ),
    ] = DEFAULT_SLO,
    hours: Annotated[float | None, typer.Option(help="Only the first hours of the load.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")] = 1,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST, help="Of every static fleet; as many as the peak needs by default."),
    ] = None,
    tensor_parallel: Annotated[int, typer.Option(help="GPUs per replica of static fleets.")] = 8,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option(min=1, help=f"Prefill chunk of {SINGLE_POOL}; tuned by default.")
    ] = None,
    queue_order: Annotated[QueueOrder, typer.Option(help="Which waiting request goes next.")] = QueueOrder.FCFS,
    servers: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MOST, help="GPU inventory in servers of 8; by default what the tuned static fleet needs."
        ),
    ] = None,
    rate_scale: Annotated[float, typer.Option(help="Requests per second relative to the load's own.")] = 1.0,
    peak_servers: Annotated[
        int | None,
        typer.Option(
            min=1, max=_MOST, help="Scale the load so that the tuned static fleet needs so many servers of 8 GPUs."
        ),
    ] = None,
    scale_mode: Annotated[
        ScaleMode,
        typer.Option(
            help="coincide: more users at the same times; superpose: at any times, which evens the load out; compress: "
            "the same ones in less time."
        ),
    ] = ScaleMode.COINCIDE,
    burstiness: Annotated[
        float | None, typer.Option(metavar="CV", help="Of --workload: CV of the gaps between requests; 1 is Poisson.")
    ] = None,
    fidelity: Annotated[
        Fidelity | None,
        typer.Option(help="events: every iteration; slots: five minutes at a time. By default slots beyond 24 hours."),
    ] = None,
    classes: Annotated[
        ClassCuts,
        typer.Option(help="Cuts between request classes: the paper's table, or percentiles 33 and 66 of the load's."),
    ] = ClassCuts.PAPER,
    startup: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="From a replica's creation to Ready; the profile's by default."),
    ] = None,
    predictor_accuracy: Annotated[
        float, typer.Option(help="Part of the requests whose output length is predicted right, in three classes.")
    ] = 0.81,
    idle_power: Annotated[
        float | None, typer.Option(metavar="W", help="Of a GPU that no replica holds; the GPU's own by default.")
    ] = None,
    cold_start: Annotated[
        bool, typer.Option("--cold-start", help="Policies that learn are not given the week before.")
    ] = False,
    price: Annotated[
        float | None, typer.Option(metavar="USD", help="Per kWh: what every policy's energy costs is shown as well.")
    ] = None,
    carbon: Annotated[
        float, typer.Option(metavar="G", help="g CO2e per kWh; with --price in the report and the JSON.")
    ] = WORLD_CARBON_G_PER_KWH,
    with_ablations: Annotated[
        bool,
        typer.Option(
            "--ablate", help=f"Also try our policy ({DEFAULT_ABLATED} if none is named) under other conditions."
        ),
    ] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write the result as JSON; - is standard output.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML report that opens without a network.")
    ] = None,
) -> None:
    """Replay a load on a simulated fleet under one policy after another, and compare energy and latencies.

    All policies get the same requests, know the same of the week before, and pay for the same GPU inventory. Energy is
    given twice: GPUs that no replica holds are off, or they idle.
    """
    check_outputs(json_file, report, trace)
    wanted = chosen("--policy", policy or [SINGLE_POOL], [*NAMES, ALL])
    conditions = Conditions(
        workload=find_workload(trace, workload, burstiness),
        model=model,
        gpu=gpu,
        tensor_parallel=tensor_parallel,
        slo=parse_slo(slo),
        slo_text=slo,
        hours=hours,
        seed=seed,
        scale_mode=scale_mode,
        rate_scale=rate_scale,
        percentile_classes=classes is ClassCuts.PERCENTILE,
        fidelity=fidelity,
        released_w=idle_power,
        tariff=None if price is None else Tariff(price, carbon),
        options=StudyOptions(
            replicas=replicas,
            chunk=max_num_batched_tokens,
            queue_order=queue_order,
            servers=servers,
            peak_servers=peak_servers,
            startup_s=startup,
            predictor_accuracy=predictor_accuracy,
            cold_start=cold_start,
        ),
    )
    ours = ablated_policy(NAMES if ALL in wanted else wanted)
    added = {SINGLE_POOL, *([ours] if with_ablations else [])}
    names = [name for name in NAMES if ALL in wanted or name in wanted or name in added]
    with ProgressBars() as bars, CachedSurfaces(default_surface_dir(), progress=bars.models) as surfaces:
        bars.say("sizing the static fleet by simulation")
        session = prepare(conditions, surfaces)
        comparison = session.compare(names, bars, tolerant=ALL in wanted)
        if with_ablations:
            comparison = replace(comparison, ablations=tuple(ablate(session, comparison, ours, surfaces, bars)))
    _show(comparison, json_file, report)


def _show(comparison: Comparison, json_file: str | None, report: Path | None) -> None:
    to_stdout = json_file == "-"
    console = Console(stderr=to_stdout)
    # A narrow terminal wraps the lines of a table, which is better than figures that are cut off.
    console.width = max(console.width, _LEAST_WIDTH)
    console.print(result_view(comparison), highlight=False)
    if report is not None:
        # Imported here: plotly takes a second to load, which most runs need not wait for.
        from dynawatt.cli.simulate.report import report_html  # noqa: PLC0415

        write_output("--report", report, report_html(comparison))
    if json_file is not None:
        text = json.dumps(to_json(comparison), indent=1, allow_nan=False)
        if to_stdout:
            typer.echo(text)
        else:
            write_output("--json", Path(json_file), text + "\n")
