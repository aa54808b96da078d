"""``dynawatt agent``: governs the GPU clocks of one node until it is told to stop."""

import logging
import signal
import threading
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError

from dynawatt.adapters.kubernetes.client import api_client
from dynawatt.agent.process import Settings, run_agent
from dynawatt.api.base import DnsLabel, DnsName
from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.ports import GpuDevice, GpuError
from dynawatt.sandbox.simulated_gpus import SimulatedNodeClient

_GPUS_WITHIN_S: Final = 30.0
_NODE_NAME: Final[TypeAdapter[str]] = TypeAdapter(DnsName)
_NAMESPACE: Final[TypeAdapter[str]] = TypeAdapter(DnsLabel)


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("agent")(agent)


def agent(
    *,
    node_name: Annotated[str, typer.Option(help="The Kubernetes node whose GPUs are governed.")],
    simulated_gpus: Annotated[str, typer.Option(metavar="URL", help="Node simulator that has the node's GPUs.")],
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="How to reach the cluster; default: the pod's service account.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Where the operator keeps its Lease.")] = DEFAULT_NAMESPACE,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of /metrics and /healthz.")] = 9410,
    metrics_address: Annotated[str, typer.Option(help="Address to serve them on.")] = "127.0.0.1",
    log_level: Annotated[LogLevel, typer.Option(help="How much to log.")] = LogLevel.INFO,
) -> None:
    """Keep the GPU clocks of one node within the operator's claims, and at default without them.

    SIGTERM or Ctrl-C ends it; all clocks are at default then.
    """
    _check_name("--node-name", node_name, _NODE_NAME)
    _check_name("--namespace", namespace, _NAMESPACE)
    if not simulated_gpus.startswith(("http://", "https://")):
        raise InvalidInputError(f"--simulated-gpus {simulated_gpus!r}: must be a URL such as http://127.0.0.1:9400")
    api = api_client(kubeconfig)
    _set_up_logging(log_level)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    simulator = SimulatedNodeClient(simulated_gpus, node_name)
    try:
        devices = _wait_for_gpus(simulator, node_name, stop)
        if devices:
            settings = Settings(
                node=node_name, namespace=namespace, metrics_address=metrics_address, metrics_port=metrics_port
            )
            run_agent(settings=settings, api=api, devices=devices, allocations=simulator, stop=stop)
    finally:
        simulator.close()


def _set_up_logging(level: LogLevel) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="time=%(asctime)s.%(msecs)03dZ level=%(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.Formatter.converter = time.gmtime
    for library in ("httpx", "httpcore", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _check_name(option: str, name: str, kind: TypeAdapter[str]) -> None:
    try:
        kind.validate_python(name)
    except ValidationError as error:
        raise InvalidInputError(
            f"{option} {name!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from None


def _wait_for_gpus(simulator: SimulatedNodeClient, node: str, stop: threading.Event) -> Sequence[GpuDevice]:
    """The node's GPUs once the simulator knows the node; none when told to stop before."""
    deadline_s = time.monotonic() + _GPUS_WITHIN_S
    problem = ""
    while not stop.is_set():
        try:
            devices = simulator.devices()
        except GpuError as error:
            problem = str(error)
        else:
            if devices:
                return devices
            problem = "the node has none"
        if time.monotonic() >= deadline_s:
            raise OperationError(
                f"no GPU of node {node!r} found within {_GPUS_WITHIN_S:.0f} s: {problem}; "
                "check --simulated-gpus and --node-name"
            )
        stop.wait(0.5)
    return []
