"""``dynawatt operator``: run the controller."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from dynawatt.adapters.surface_cache import default_surface_dir
from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.cli.prometheus_options import (
    CaFile,
    Headers,
    InsecureSkipVerify,
    PasswordFile,
    TokenFile,
    Username,
    auth_from_options,
)
from dynawatt.controller.app import run_operator
from dynawatt.controller.settings import OperatorSettings
from dynawatt.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("operator")(operator)


def operator(
    prometheus_url: Annotated[
        str | None,
        typer.Option(help="Prometheus that scrapes vLLM pods and agents; without, the operator scrapes vLLM itself."),
    ] = None,
    prometheus_token_file: TokenFile = None,
    prometheus_username: Username = None,
    prometheus_password_file: PasswordFile = None,
    prometheus_ca_file: CaFile = None,
    prometheus_insecure_skip_verify: InsecureSkipVerify = False,
    prometheus_header: Headers = None,
    kubeconfig: Annotated[
        Path | None, typer.Option(envvar="DYNAWATT_KUBECONFIG", help="By default the pod's service account.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Namespace of the operator's Lease.")] = DEFAULT_NAMESPACE,
    plan_interval_s: Annotated[float, typer.Option(min=1, help="Seconds between plans without an urgent cause.")] = 300,
    observe_interval_s: Annotated[float, typer.Option(min=1, help="Seconds between looks at each service.")] = 10,
    rate_window_s: Annotated[int, typer.Option(min=4, help="Window of rate queries: several scrapes long.")] = 120,
    mix_window_s: Annotated[int, typer.Option(min=10, help="Window of the request length histograms.")] = 600,
    peak_window_s: Annotated[float, typer.Option(min=10, help="How long a load peak is remembered.")] = 300,
    time_lapse: Annotated[
        float, typer.Option(min=1, max=300, help="How many times faster than in reality the load changes: for demos.")
    ] = 1,
    agent_stale_s: Annotated[float, typer.Option(min=5, help="An agent without a cycle for so long is dead.")] = 300,
    lease_duration_s: Annotated[int, typer.Option(min=3, help="Clocks return to default after so long.")] = 30,
    watch_namespace: Annotated[
        list[str] | None,
        typer.Option(help="Namespace of LLMServices, or a pattern such as team-*; repeatable. By default all."),
    ] = None,
    elastic_nodes: Annotated[
        bool, typer.Option(help="The cluster adds nodes for pods that wait for GPUs: plan as if there were enough.")
    ] = False,
    metrics_address: Annotated[str, typer.Option(help="Address to serve /metrics and /healthz on.")] = "127.0.0.1",
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve them on.")] = 8080,
    surface_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="DYNAWATT_SURFACE_DIR",
            help="Where latency models are kept between starts; by default under the user's cache directory.",
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Watch LLMServices and keep them at the fewest joules within their SLO."""
    level = logging.getLevelNamesMapping().get(log_level.upper())
    if level is None:
        raise InvalidInputError(f"--log-level {log_level}: must be debug, info, warning or error")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    settings = OperatorSettings(
        prometheus_url=prometheus_url,
        prometheus_auth=auth_from_options(
            prometheus_token_file,
            prometheus_username,
            prometheus_password_file,
            prometheus_ca_file,
            prometheus_insecure_skip_verify,
            prometheus_header,
        ),
        namespace=namespace,
        namespaces=tuple(watch_namespace or ()),
        elastic_nodes=elastic_nodes,
        plan_interval_s=plan_interval_s,
        observe_interval_s=observe_interval_s,
        rate_window_s=rate_window_s,
        mix_window_s=mix_window_s,
        peak_window_s=peak_window_s,
        time_lapse=time_lapse,
        agent_stale_s=agent_stale_s,
        lease_duration_s=lease_duration_s,
        metrics_address=metrics_address,
        metrics_port=metrics_port,
        surface_dir=surface_dir or default_surface_dir(),
    )
    run_operator(settings, kubeconfig)
