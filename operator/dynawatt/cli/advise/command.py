"""``dynawatt advise``: what dynawatt would save for a service, from what is known of it already."""

import json
import time
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer

from dynawatt.adapters.deployment_file import RunningDeployment
from dynawatt.adapters.prometheus_auth import PrometheusAuth
from dynawatt.adapters.surface_cache import default_surface_dir
from dynawatt.adapters.surface_source import CachedSurfaces
from dynawatt.cli.advise.observed import Observed, PrometheusOptions, observe_prometheus, observe_trace
from dynawatt.cli.advise.page import page
from dynawatt.cli.advise.present import Known, PresentOptions, find_deployment, find_present
from dynawatt.cli.advise.report import Report
from dynawatt.cli.advise.results_json import to_json
from dynawatt.cli.prometheus_options import (
    CaFile,
    Headers,
    InsecureSkipVerify,
    PasswordFile,
    TokenFile,
    Username,
    auth_from_options,
)
from dynawatt.cli.simulate.options import DEFAULT_SLO, check_outputs, parse_slo, write_output
from dynawatt.cli.simulate.progress import ProgressBars
from dynawatt.errors import InvalidInputError
from dynawatt.simulation.advice.rungs import climb, fitting_replicas
from dynawatt.simulation.study import Study

_MOST: Final = 10_000
_HOURS: Final = 24.0
_MOST_HOURS: Final = 24 * 35.0
"""What Prometheus answers in steps of five minutes."""


def advise(
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The load: CSV with TIMESTAMP,ContextTokens,GeneratedTokens."),
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(metavar="URL", help="The load: a Prometheus that scrapes vLLM; it is only read.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(help="How far back; 24 with --prometheus, the whole trace with --trace.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="With --prometheus: of the service's pods.")] = None,
    service: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --prometheus: its Deployment, StatefulSet or Service.")
    ] = None,
    served_model: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --prometheus: the model, as requests name it.")
    ] = None,
    selector: Annotated[
        str, typer.Option(metavar="MATCHERS", help='With --prometheus: PromQL matchers, such as job="vllm".')
    ] = "",
    prometheus_token_file: TokenFile = None,
    prometheus_username: Username = None,
    prometheus_password_file: PasswordFile = None,
    prometheus_ca_file: CaFile = None,
    prometheus_insecure_skip_verify: InsecureSkipVerify = False,
    prometheus_header: Headers = None,
    deployment: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="The Deployment's manifest: model, TP, GPU, flags, replicas.")
    ] = None,
    from_cluster: Annotated[
        str | None, typer.Option(metavar="NAMESPACE/NAME", help="The same, read from the cluster.")
    ] = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(envvar="KUBECONFIG", help="With --from-cluster; by default as kubectl's.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Model, as vLLM is given it, or the name of a profile.")] = None,
    gpu: Annotated[str | None, typer.Option(help="GPU product.")] = None,
    tensor_parallel: Annotated[int | None, typer.Option(min=1, help="GPUs per replica.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, max=_MOST, help="How many there are.")] = None,
    max_num_batched_tokens: Annotated[int | None, typer.Option(min=1, help="vLLM's flag, as it is set.")] = None,
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Likewise.")] = None,
    long_prefill_token_threshold: Annotated[int | None, typer.Option(min=0, help="Likewise; 0 is none.")] = None,
    slo: Annotated[
        str,
        typer.Option(
            metavar="SPEC",
            help="Percentile, TTFT objectives in ms by longest input (the last without one), TBT objective in ms.",
        ),
    ] = DEFAULT_SLO,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE|-", help="Write the advice as JSON; - is standard output.")
    ] = None,
) -> None:
    """Say what dynawatt would save for a service: engine flags, GPU clock, replicas, shape; and how to get it.

    Reads a trace, or a Prometheus that already scrapes vLLM. Installs nothing and changes nothing.
    """
    begin_s = time.perf_counter()
    check_outputs(json_file, None, trace)
    objectives = parse_slo(slo)
    if (trace is None) == (prometheus is None):
        raise InvalidInputError("the load: give either --trace FILE or --prometheus URL")
    if hours is not None and not 0 < hours <= (_MOST_HOURS if trace is None else float("inf")):
        raise InvalidInputError(f"--hours {hours:g}: must be above 0, and at most {_MOST_HOURS:g} with --prometheus")
    auth = auth_from_options(
        prometheus_token_file,
        prometheus_username,
        prometheus_password_file,
        prometheus_ca_file,
        prometheus_insecure_skip_verify,
        prometheus_header,
    )
    running = find_deployment(deployment, from_cluster, kubeconfig)
    options = PresentOptions(
        model, gpu, tensor_parallel, replicas, max_num_batched_tokens, max_num_seqs, long_prefill_token_threshold
    )
    with ProgressBars() as bars, CachedSurfaces(default_surface_dir(), progress=bars.models) as surfaces:
        if trace is not None:
            bars.say(f"reading {trace}")
            present = find_present(options, Known(running))
            replica = present.shape.replica
            context = min(replica.model.architecture.context_tokens, replica.kv_capacity_tokens)
            observed = observe_trace(trace, hours, context)
        else:
            bars.say("asking Prometheus")
            observed = observe_prometheus(
                _which(str(prometheus), auth, hours, selector, namespace, service, served_model, running),
                objectives.objectives,
            )
            present = find_present(options, _known(running, observed))
        load = observed.load
        study = Study(
            profiles=present.profiles,
            base_settings=present.settings,
            tensor_parallel=present.shape.replica.tensor_parallel,
            mix=load.mix,
            cv=load.cv,
            objectives=objectives.objectives,
            fraction=objectives.fraction,
            peak_rps=load.peak_rps,
            surfaces=surfaces,
        )
        counts = None if replicas is not None else observed.replicas
        if counts is None:
            count = present.replicas or fitting_replicas(study, present.shape, load)
            counts = np.full(len(load.rate_rps), count)
        advice = climb(study, present.shape, counts, load, bars.say)
    report = Report(
        observed=observed,
        present=present,
        advice=advice,
        slo=objectives,
        slo_text=slo,
        deployment=running.name if running else service,
        namespace=namespace or (running.namespace if running else "") or _namespace(observed),
        replicas_assumed=present.replicas is None and observed.replicas is None,
    )
    _show(report, json_file, time.perf_counter() - begin_s)


def _show(report: Report, json_file: str | None, wall_s: float) -> None:
    typer.echo(page(report), nl=False, err=json_file == "-")
    if json_file is not None:
        text = json.dumps(to_json(report, wall_s), indent=1, allow_nan=False)
        if json_file == "-":
            typer.echo(text)
        else:
            write_output("--json", Path(json_file), text + "\n")


def _which(
    url: str,
    auth: PrometheusAuth,
    hours: float | None,
    selector: str,
    namespace: str | None,
    service: str | None,
    served_model: str | None,
    running: RunningDeployment | None,
) -> PrometheusOptions:
    """Which service to ask for: what a Deployment tells counts where no option does."""
    if running is not None and not selector:
        namespace, service = namespace or running.namespace or None, service or running.name or None
    return PrometheusOptions(url, hours or _HOURS, selector, namespace, service, served_model, auth)


def _known(running: RunningDeployment | None, observed: Observed) -> Known:
    return Known(
        deployment=running,
        served_model=observed.service.model if observed.service else None,
        kv_cache_tokens=observed.kv_cache_tokens,
        prefix_hit_ratio=observed.prefix_hit_ratio,
    )


def _namespace(observed: Observed) -> str:
    return observed.service.namespace if observed.service else ""
