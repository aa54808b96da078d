"""``dynawatt load``: replays a trace against vLLM and reports what clients see."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dynawatt.adapters.trace_files import read_trace
from dynawatt.cli.load_view import ProgressLine, report_table
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.load.cluster import ObjectName, ServiceEndpoints, read_objectives
from dynawatt.load.endpoints import Endpoints, StaticEndpoints
from dynawatt.load.options import parse_objectives
from dynawatt.load.replay import INTERRUPTED, ReplayOptions, replay
from dynawatt.load.report import LoadReport
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.synthetic import rising_and_falling
from dynawatt.workload.trace import ScaleMode, Trace, check_rate_scale

_DEFAULTS = ReplayOptions()
_DEFAULT_KUBECONFIG = Path("~/.kube/config")
_INTERRUPTED_EXIT_CODE = 130
_PEAK_RPS = 4.0
_DURATION_S = 240.0


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command("load")(load)


def load(
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Send this: CSV with TIMESTAMP,ContextTokens,GeneratedTokens."),
    ] = None,
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="Send conversations instead, at a rate that rises and falls once."),
    ] = False,
    peak_rps: Annotated[float | None, typer.Option(help="Of --synthetic: highest rate; 4 by default.")] = None,
    trough_rps: Annotated[
        float | None, typer.Option(help="Of --synthetic: rate at both ends; a quarter of the peak by default.")
    ] = None,
    url: Annotated[
        list[str] | None, typer.Option(help="Send to this server, e.g. http://127.0.0.1:8000; may be repeated.")
    ] = None,
    service: Annotated[
        str | None, typer.Option(metavar="NAMESPACE/NAME", help="Send to the Ready pods of this Service.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(envvar="KUBECONFIG", help="The cluster; ~/.kube/config when there is one.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model name; asked of the server by default.")] = None,
    rate_scale: Annotated[float, typer.Option(help="Requests per second relative to the trace.")] = 1.0,
    scale_mode: Annotated[
        ScaleMode,
        typer.Option(
            help="superpose: copies on top of each other, shifted around the trace; coincide: within a minute; "
            "compress: time, keeps the burstiness."
        ),
    ] = ScaleMode.SUPERPOSE,
    start_offset_s: Annotated[float, typer.Option(help="Begin this far into the trace.")] = 0.0,
    duration_s: Annotated[
        float | None,
        typer.Option(help="Send for this long; by default to the end of the trace, or 240 with --synthetic."),
    ] = None,
    ttft: Annotated[
        str | None,
        typer.Option(metavar="MAX_INPUT:MS,..,MS", help="TTFT objectives by input length, e.g. 256:250,1024:400,2000."),
    ] = None,
    tbt_ms: Annotated[float | None, typer.Option(help="TBT objective in milliseconds.")] = None,
    llmservice: Annotated[
        str | None, typer.Option(metavar="NAMESPACE/NAME", help="Take the objectives from this LLMService.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn at random.")] = _DEFAULTS.seed,
    max_outstanding: Annotated[
        int, typer.Option(min=1, help="Give up when so many requests have not ended.")
    ] = _DEFAULTS.max_outstanding,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Also write the report as JSON; - is standard output."),
    ] = None,
) -> None:
    """Replay a request trace against vLLM and measure TTFT and TBT.

    Every request is sent at its time, whatever became of the others, with a prompt and an answer of exactly the
    lengths in the trace. Ctrl-C ends the replay with a partial report and exit code 130.
    """
    if (trace is None) != synthetic:
        raise InvalidInputError("what to send: give either --trace FILE or --synthetic")
    if not synthetic and (peak_rps is not None or trough_rps is not None):
        raise InvalidInputError("--peak-rps and --trough-rps belong to --synthetic: use --rate-scale for a trace")
    if (not url) == (service is None):
        raise InvalidInputError("where to send: give either --url http://HOST:PORT or --service NAMESPACE/NAME")
    if llmservice is not None and (ttft is not None or tbt_ms is not None):
        raise InvalidInputError(f"--llmservice {llmservice} holds the objectives: leave --ttft and --tbt-ms out")
    if (ttft is None) != (tbt_ms is None):
        raise InvalidInputError("objectives: give --ttft and --tbt-ms together, or neither")
    _check_writable(json_file)
    objectives = None if ttft is None or tbt_ms is None else parse_objectives(ttft, tbt_ms)
    if trace is not None:
        requests = read_trace(trace).excerpt(
            rate_scale=rate_scale, mode=scale_mode, start_s=start_offset_s, duration_s=duration_s, seed=seed
        )
    else:
        requests = _synthetic(
            peak_rps=peak_rps,
            trough_rps=trough_rps,
            rate_scale=rate_scale,
            start_s=start_offset_s,
            duration_s=duration_s,
            seed=seed,
        )
    options = ReplayOptions(model=model, seed=seed, max_outstanding=max_outstanding)

    async def run() -> LoadReport:
        limits = objectives
        if llmservice is not None:
            limits = await read_objectives(ObjectName.parse("--llmservice", llmservice), _kubeconfig(kubeconfig))
        async with _endpoints(url, service, kubeconfig) as endpoints:
            return await _replay(requests, endpoints, limits, options)

    _finish(asyncio.run(run()), json_file)


def _synthetic(
    *,
    peak_rps: float | None,
    trough_rps: float | None,
    rate_scale: float,
    start_s: float,
    duration_s: float | None,
    seed: int,
) -> Trace:
    """The built-in load. Copies shifted in time would level it: scaling multiplies its rates instead."""
    peak = _PEAK_RPS if peak_rps is None else peak_rps
    trough = peak / 4 if trough_rps is None else trough_rps
    check_rate_scale(rate_scale)
    duration = _DURATION_S if duration_s is None else duration_s
    return rising_and_falling(duration, trough * rate_scale, peak * rate_scale, seed).excerpt(start_s=start_s)


@contextlib.asynccontextmanager
async def _endpoints(
    url: Sequence[str] | None, service: str | None, kubeconfig: Path | None
) -> AsyncIterator[Endpoints]:
    if url:
        yield StaticEndpoints(url)
        return
    name = ObjectName.parse("--service", service or "")
    async with ServiceEndpoints(name, _kubeconfig(kubeconfig)) as endpoints:
        yield endpoints


async def _replay(
    requests: Trace, endpoints: Endpoints, objectives: LatencyObjectives | None, options: ReplayOptions
) -> LoadReport:
    """Replay until the end or a signal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        with ProgressLine() as line:
            return await replay(requests, endpoints, objectives, line.show, options=options, stop=stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _finish(report: LoadReport, json_file: str | None) -> None:
    to_stdout = json_file == "-"
    Console(stderr=to_stdout).print(report_table(report), highlight=False)
    if json_file is not None:
        text = json.dumps(report.to_json(), indent=1)
        if to_stdout:
            typer.echo(text)
        else:
            Path(json_file).write_text(text + "\n", encoding="utf-8")
    if report.stopped == INTERRUPTED:
        raise typer.Exit(_INTERRUPTED_EXIT_CODE)
    if report.stopped is not None:
        raise OperationError(report.stopped)


def _kubeconfig(given: Path | None) -> Path | None:
    """What kubectl would use; None in a pod."""
    default = _DEFAULT_KUBECONFIG.expanduser()
    return given or (default if default.exists() else None)


def _check_writable(json_file: str | None) -> None:
    """Find out before the load test, not after it."""
    if json_file is None or json_file == "-":
        return
    directory = Path(json_file).parent
    if Path(json_file).is_dir() or not os.access(directory, os.W_OK):
        raise InvalidInputError(f"--json {json_file}: cannot be written; give a file in an existing directory")
