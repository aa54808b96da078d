"""Starts components, waits until they answer, and says which one died and why."""

import http.client
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from dynawatt.errors import OperationError
from dynawatt.sandbox.addresses import free_ports
from dynawatt.sandbox.processes import is_running, last_lines, quote_log, spawn
from dynawatt.sandbox.state import ProcessRecord, SandboxState

_POLL_S: Final = 0.05
_TIMEOUT_S: Final = 60.0
"""Far beyond what any component needs on an idle machine; busy ones are slower."""


@dataclass(frozen=True, slots=True)
class Component:
    """A program of the sandbox before it runs."""

    name: str
    command: Callable[[int], Sequence[str]]
    """The command line for a port, which is 0 for a program that serves nothing."""
    health: str = ""
    """Path that answers 200 once it is ready; empty for a program that serves nothing."""
    scheme: str = "http"
    environment: Mapping[str, str] = field(default_factory=dict)


def start(state: SandboxState, components: Sequence[Component]) -> None:
    """Start components and note them in the state."""
    ports = free_ports(len(components))
    for component, port in zip(components, ports, strict=True):
        _start_one(state, component, port if component.health else 0)


def wait_ready(state: SandboxState, components: Sequence[Component]) -> None:
    """Wait until all these answer; one whose port was taken meanwhile gets another, once.

    Raises OperationError that names the component with the end of its log.
    """
    deadline_s = time.monotonic() + _TIMEOUT_S
    moved: set[str] = set()
    waiting = [component for component in components if component.health]
    while waiting:
        for component in list(waiting):
            record = state.processes[component.name]
            if _answers(record.url + component.health):
                waiting.remove(component)
            elif not is_running(record.identity):
                if component.name in moved or not _lost_its_port(record):
                    check_running(state)
                moved.add(component.name)
                _start_one(state, component, free_ports(1)[0])
            elif time.monotonic() > deadline_s:
                raise OperationError(f"{component.name} was not ready after {_TIMEOUT_S:g} s{quote_log(record.log)}")
        time.sleep(_POLL_S if waiting else 0)


def wait_until(state: SandboxState, what: str, is_true: Callable[[], bool]) -> None:
    """Wait for a fact about the cluster. Raises OperationError when a component dies or it takes too long."""
    deadline_s = time.monotonic() + _TIMEOUT_S
    while not is_true():
        check_running(state)
        if time.monotonic() > deadline_s:
            raise OperationError(f"{what} was not so after {_TIMEOUT_S:g} s; see the logs in {state.logs}")
        time.sleep(_POLL_S)


def check_running(state: SandboxState) -> None:
    """Raise OperationError that names every component that has died, with the end of its log."""
    dead = [record for record in state.processes.values() if not is_running(record.identity)]
    if dead:
        raise OperationError(explain_deaths(dead))


def explain_deaths(dead: Sequence[ProcessRecord]) -> str:
    """Name components that died, with the end of their logs."""
    return "\n".join(f"{record.name} died{quote_log(record.log)}" for record in dead)


def _start_one(state: SandboxState, component: Component, port: int) -> None:
    log = state.logs / f"{component.name}.log"
    identity = spawn(component.command(port), log=log, marker=state.directory, environment=component.environment)
    url = f"{component.scheme}://127.0.0.1:{port}" if port else ""
    state.processes[component.name] = ProcessRecord(name=component.name, identity=identity, log=log, url=url)
    state.save()


def _lost_its_port(record: ProcessRecord) -> bool:
    return any("address already in use" in line.lower() for line in last_lines(record.log, lines=40))


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=2.0)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.netloc, timeout=2.0, context=_unverified())
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _unverified() -> ssl.SSLContext:
    """Enough to ask whether a server is up, at a time when nobody knows its certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
