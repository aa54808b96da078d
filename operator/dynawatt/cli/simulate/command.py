"""``dynawatt simulate``: replays a load on a simulated fleet under one policy after another."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from dynawatt.adapters.profile_files import find_replica
from dynawatt.cli.simulate.comparison import Comparison, Question
from dynawatt.cli.simulate.fleets import POLICIES, FleetOptions, build_fleets
from dynawatt.cli.simulate.loads import Load, find_workload
from dynawatt.cli.simulate.options import DEFAULT_SLO, check_outputs, chosen, parse_slo, write_output
from dynawatt.cli.simulate.results_json import to_json
from dynawatt.cli.simulate.running import run_all
from dynawatt.cli.simulate.table import result_view
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.static_policies import SINGLE_POOL
from dynawatt.workload.trace import ScaleMode

_LEAST_WIDTH: Final = 150
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
            help=f"May be repeated: {', '.join(POLICIES)}. The first is simulated in any case, to save against.",
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
        typer.Option(help="superpose: more users at once; compress: the same ones in less time."),
    ] = ScaleMode.SUPERPOSE,
    burstiness: Annotated[
        float | None, typer.Option(metavar="CV", help="Of --workload: CV of the gaps between requests; 1 is Poisson.")
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write the result as JSON; - is standard output.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML report that opens without a network.")
    ] = None,
) -> None:
    """Replay a load on a simulated fleet under one policy after another, and compare energy and latencies.

    Every iteration of every replica is simulated. All policies get the same requests and pay for the same GPU
    inventory. Energy is given twice: GPUs that no replica holds are off, or they idle.
    """
    check_outputs(json_file, report, trace)
    objectives = parse_slo(slo)
    names = chosen("--policy", policy or [SINGLE_POOL], POLICIES)
    replica = find_replica(model, gpu, tensor_parallel)
    load = Load(
        find_workload(trace, workload, burstiness),
        hours=hours,
        seed=seed,
        scale_mode=scale_mode,
        context_tokens=min(replica.model.architecture.context_tokens, replica.kv_capacity_tokens),
        rate_scale=rate_scale,
    )
    options = FleetOptions(
        replicas=replicas,
        chunk=max_num_batched_tokens,
        queue_order=queue_order,
        servers=servers,
        peak_servers=peak_servers,
    )
    with Console(stderr=True).status("sizing static fleets by simulation"):
        fleets = build_fleets(names, replica, load, objectives, options)
    question = Question(
        load=load.workload.name,
        rate_scale=load.rate_scale,
        model=replica.model.architecture.name,
        gpu=replica.gpu.name,
        profile=replica.model.name,
        slo=objectives,
        slo_text=slo,
        queue_order=queue_order.value,
        horizon_s=load.end_s,
        servers=fleets.servers,
        servers_rule=fleets.servers_rule,
        seed=seed,
    )
    _show(run_all(fleets, load, question), json_file, report)


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
