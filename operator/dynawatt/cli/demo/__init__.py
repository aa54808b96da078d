"""``dynawatt demo``: the whole system on this machine, under load, ending with what was saved."""

from pathlib import Path
from typing import Annotated

import typer

from dynawatt.cli.demo.faults import Fault
from dynawatt.cli.demo.run import run_demo
from dynawatt.cli.demo.scenario import TraceFit, load_scenario


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    trace: Annotated[
        Path | None,
        typer.Option(help="Azure-format CSV to replay (TIMESTAMP,ContextTokens,GeneratedTokens); default: synthetic."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here as JSON.")] = None,
    duration_s: Annotated[float, typer.Option(min=60, max=3600, help="Seconds of load.")] = 240.0,
    rate_scale: Annotated[
        float | None,
        typer.Option(min=0.01, max=1000, help="Scale of the rate; default: the static fleet needs one replica."),
    ] = None,
    fit: Annotated[
        TraceFit,
        typer.Option(
            help="timelapse: the whole trace in fast motion, thinned. superpose: its first minutes, with time-shifted "
            "copies on top. compress: more of it in less time, which keeps the burstiness."
        ),
    ] = TraceFit.TIMELAPSE,
    start_offset_s: Annotated[float, typer.Option(min=0, help="Where in the trace to start.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    fault: Annotated[Fault | None, typer.Option(help="Let something go wrong under load.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the sandbox running at the end.")] = False,
) -> None:
    """Run a real Kubernetes control plane, the operator, agents and Prometheus with simulated GPUs under load.

    The load is replayed once more without the controller through the same models: that is the baseline.
    """
    scenario = load_scenario(
        trace,
        duration_s=duration_s,
        rate_scale=rate_scale,
        fit=fit,
        start_offset_s=start_offset_s,
        seed=seed,
    )
    run_demo(scenario, json_file=json_file, fault=fault, keep=keep)
