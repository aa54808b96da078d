"""``dynawatt agent``: governs the GPU clocks of one node until it is told to stop."""

import logging
import signal
import threading
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError

from dynawatt.adapters.kubernetes.client import api_client
from dynawatt.adapters.nvml.node import NvmlNode, open_gpus
from dynawatt.adapters.podresources.client import SOCKET, PodResourcesClient
from dynawatt.agent.actuating import Actuator
from dynawatt.agent.journal import Journal
from dynawatt.agent.process import Settings, run_agent
from dynawatt.agent.resetting import reset_all
from dynawatt.api.base import DnsLabel, DnsName
from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.ports import ClockMethod

_GPUS_WITHIN_S: Final = 30.0
_RETRY_S: Final = 0.5
_JOURNAL: Final = Path("/var/lib/dynawatt")
_NODE_NAME: Final[TypeAdapter[str]] = TypeAdapter(DnsName)
_NAMESPACE: Final[TypeAdapter[str]] = TypeAdapter(DnsLabel)


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class ClockChoice(StrEnum):
    """How clocks are set."""

    AUTO = "auto"
    LOCKED = "locked"
    APPLICATIONS = "applications"
    NONE = "none"

    @property
    def method(self) -> ClockMethod | None:
        """None where the driver decides."""
        return {
            ClockChoice.AUTO: None,
            ClockChoice.LOCKED: ClockMethod.LOCKED_CLOCKS,
            ClockChoice.APPLICATIONS: ClockMethod.APPLICATIONS_CLOCKS,
            ClockChoice.NONE: ClockMethod.NONE,
        }[self]


_JournalDir = Annotated[
    Path,
    typer.Option("--journal-dir", metavar="DIR", help="Where it is written down which GPUs are locked; on the node."),
]
_Level = Annotated[LogLevel, typer.Option("--log-level", help="How much to log.")]


def register(app: typer.Typer) -> None:
    """Add the command and the one below it."""
    agent_app = typer.Typer(invoke_without_command=True, pretty_exceptions_enable=False)
    agent_app.callback()(agent)
    agent_app.command("reset-all")(reset_all_command)
    app.add_typer(agent_app, name="agent", help="Govern the GPU clocks of one node within the operator's claims.")


def agent(
    context: typer.Context,
    node_name: Annotated[
        str, typer.Option(envvar="NODE_NAME", help="The Kubernetes node whose GPUs are governed.")
    ] = "",
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            envvar="DYNAWATT_KUBECONFIG",
            metavar="FILE",
            help="How to reach the cluster; default: the pod's service account.",
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="Where the operator keeps its Lease.")] = DEFAULT_NAMESPACE,
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of /metrics, /healthz and /readyz.")] = 9410,
    metrics_address: Annotated[str, typer.Option(help="Address to serve them on.")] = "127.0.0.1",
    pod_resources_socket: Annotated[
        Path, typer.Option(metavar="FILE", help="The kubelet's PodResources socket.")
    ] = SOCKET,
    journal_dir: _JournalDir = _JOURNAL,
    clocks: Annotated[
        ClockChoice, typer.Option(help="How clocks are set; none: energy is exported, clocks are left alone.")
    ] = ClockChoice.AUTO,
    log_level: _Level = LogLevel.INFO,
) -> None:
    """Keep the GPU clocks of one node within the operator's claims, and at default without them.

    SIGTERM or Ctrl-C ends it; whatever it locked is at default then.
    """
    if context.invoked_subcommand is not None:
        _refuse_options_before(context.invoked_subcommand, context)
        return
    if not node_name:
        raise InvalidInputError("--node-name is missing: give it, or set NODE_NAME from the pod's spec.nodeName")
    _check_name("--node-name", node_name, _NODE_NAME)
    _check_name("--namespace", namespace, _NAMESPACE)
    api = api_client(kubeconfig)
    _set_up_logging(log_level)
    stop = _stop_on_signals()
    journal = Journal(journal_dir)
    allocations = PodResourcesClient(pod_resources_socket)
    try:
        node = _wait_for_gpus(clocks.method, stop)
        if node is None:
            return
        with node:
            run_agent(
                settings=Settings(
                    node=node_name, namespace=namespace, metrics_address=metrics_address, metrics_port=metrics_port
                ),
                api=api,
                devices=node.gpus,
                allocations=allocations,
                journal=journal,
                stop=stop,
            )
    finally:
        allocations.close()
        journal.close()


def reset_all_command(journal_dir: _JournalDir = _JOURNAL, log_level: _Level = LogLevel.INFO) -> None:
    """Bring every GPU of this node back to its default clocks, whoever locked them; for after an uninstall.

    Refused while an agent runs on the node, which would lock them again.
    """
    _set_up_logging(log_level)
    journal = Journal(journal_dir)
    try:
        with open_gpus() as node:
            failed = reset_all(Actuator(node.gpus, journal=journal))
            typer.echo(f"{len(node.gpus) - len(failed)} of {len(node.gpus)} GPUs are at their default clocks")
            if failed or node.left_out:
                raise OperationError(f"not reset: {', '.join([*failed, *node.left_out])}; a reboot of the node does it")
    finally:
        journal.close()


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _set_up_logging(level: LogLevel) -> None:
    logging.basicConfig(
        level=level.upper(),
        format="time=%(asctime)s.%(msecs)03dZ level=%(levelname)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.Formatter.converter = time.gmtime
    logging.getLogger("urllib3").setLevel(logging.WARNING)


def _refuse_options_before(subcommand: str, context: typer.Context) -> None:
    """They would be taken and not heeded. Raises InvalidInputError."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise InvalidInputError(f"{option} stands before {subcommand}: put it behind, if {subcommand} has it")


def _check_name(option: str, name: str, kind: TypeAdapter[str]) -> None:
    try:
        kind.validate_python(name)
    except ValidationError as error:
        raise InvalidInputError(
            f"{option} {name!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        ) from None


def _wait_for_gpus(method: ClockMethod | None, stop: threading.Event) -> NvmlNode | None:
    """The node's GPUs once the driver answers, which after a boot takes a while; None when told to stop before."""
    deadline_s = time.monotonic() + _GPUS_WITHIN_S
    while not stop.is_set():
        try:
            return open_gpus(clock_method=method)
        except OperationError:
            if time.monotonic() >= deadline_s:
                raise
            stop.wait(_RETRY_S)
    return None
