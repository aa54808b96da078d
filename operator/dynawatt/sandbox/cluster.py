"""A running sandbox: started, found again, asked, and ended without a trace.

``up`` either leaves a sandbox in which everything answers or, whatever happens
(a component dies, Ctrl-C), nothing at all. One command at a time works on a
sandbox; the others wait for the lock on its directory.
"""

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.sandbox import controlplane, dynawatt_processes, monitoring
from dynawatt.sandbox.addresses import choose_pod_network
from dynawatt.sandbox.api import ApiServer
from dynawatt.sandbox.build import ensure_built
from dynawatt.sandbox.credentials import kubeconfig, new_tokens, signing_key_pem, token_file, write_private
from dynawatt.sandbox.driver.build import ensure_driver
from dynawatt.sandbox.install import (
    AGENT_ACCOUNT,
    OPERATOR_ACCOUNT,
    accepts_pods,
    agent_pod,
    install,
    nodes_are_ready,
    serves_custom_resources,
)
from dynawatt.sandbox.launching import Component, check_running, explain_deaths, start, wait_ready, wait_until
from dynawatt.sandbox.locking import locked_directory
from dynawatt.sandbox.options import SandboxOptions, check_name
from dynawatt.sandbox.paths import sandboxes_root
from dynawatt.sandbox.processes import end_all, find_marked, is_running, quote_log, send, wait_gone
from dynawatt.sandbox.progress import Progress, Silent
from dynawatt.sandbox.state import ProcessRecord, SandboxState, directory_of, existing_names, load_state, remove_files


@dataclass(frozen=True, slots=True)
class ComponentStatus:
    """One component as it is now."""

    record: ProcessRecord
    running: bool


class Sandbox:
    """One sandbox that exists. Made by ``up`` and ``load``."""

    def __init__(self, state: SandboxState, *, reused: bool = False, started_in_s: float = 0.0) -> None:
        self._state = state
        self.reused = reused
        """Whether ``up`` found it running."""
        self.started_in_s = started_in_s
        """How long ``up`` took to start it, building not included."""

    @classmethod
    def up(
        cls,
        options: SandboxOptions,
        progress: Progress | None = None,
        *,
        rules: Mapping[str, str] = MappingProxyType({}),
    ) -> "Sandbox":
        """Start a sandbox, or return the one that already runs with the same options.

        Args:
            options: Of the sandbox.
            progress: Is told what is being done.
            rules: For its Prometheus, texts by file name.

        Raises:
            InvalidInputError: One of this name runs with other options.
            OperationError: Something could not be built or started; nothing is left behind.
        """
        progress = progress or Silent()
        binaries = ensure_built(progress)
        ensure_driver(progress)
        directory = directory_of(options.name)
        with locked_directory(directory, waiting=lambda: progress.say("Waiting for another command on this sandbox")):
            found = load_state(options.name)
            if found and _can_be_reused(found, options):
                return cls(found, reused=True)
            _remove(directory)  # what an interrupted command or a reboot left behind
            started_s = time.monotonic()
            try:
                state = _new_state(directory, options)
                sandbox = cls(state)
                progress.say("Starting etcd, the Kubernetes control plane, KWOK, Prometheus and the simulated GPUs")
                sandbox._start_cluster(binaries, rules)
                if options.dynawatt:
                    progress.say("Starting the operator and one agent per node")
                    sandbox.start_dynawatt()
                state.ready = True
                state.save()
            except BaseException:
                with _uninterrupted():
                    _remove(directory)
                raise
            sandbox.started_in_s = time.monotonic() - started_s
            return sandbox

    @classmethod
    def load(cls, name: str = "default") -> "Sandbox":
        """Find a sandbox again. Raises InvalidInputError when there is none of this name."""
        check_name(name)
        state = load_state(name)
        if state is None:
            raise InvalidInputError(
                f"sandbox {name!r} does not exist: start it with: dynawatt sandbox up --name {name}"
            )
        return cls(state)

    @property
    def options(self) -> SandboxOptions:
        """What it was started with."""
        return self._state.options

    @property
    def directory(self) -> Path:
        """Where its files are."""
        return self._state.directory

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig file with every right."""
        return self._state.admin_kubeconfig

    @property
    def ready(self) -> bool:
        """Whether ``up`` has finished; otherwise it is at work, or was killed."""
        return self._state.ready

    @property
    def prometheus_url(self) -> str:
        """Where its Prometheus answers."""
        return self.process("prometheus").url

    @property
    def nodesim_url(self) -> str:
        """Where its simulated GPUs answer."""
        return self.process("nodesim").url

    def agent_urls(self) -> list[str]:
        """Where the agent of each node answers. Raises InvalidInputError when there are none."""
        return [self.process(f"agent-{node}").url for node in self.options.node_names()]

    @property
    def nodesim_directory(self) -> Path:
        """Where the simulated drivers' files and the kubelets' sockets are."""
        return self._state.directory / "nodesim"

    def process(self, name: str) -> ProcessRecord:
        """A component by its name. Raises InvalidInputError when the sandbox has no such component."""
        if name not in self._state.processes:
            raise InvalidInputError(f"component {name!r} does not exist: one of {', '.join(self._state.processes)}")
        return self._state.processes[name]

    def status(self) -> list[ComponentStatus]:
        """Every component in the order of their start."""
        records = self._state.processes.values()
        return [ComponentStatus(record=record, running=is_running(record.identity)) for record in records]

    def check(self) -> None:
        """Raise OperationError that names every component that has died, with the end of its log."""
        check_running(self._state)

    def operator_kubeconfig(self) -> Path:
        """A kubeconfig file with the operator's rights and a new token. Raises OperationError."""
        return self._service_account_kubeconfig("operator", service_account=OPERATOR_ACCOUNT)

    def agent_kubeconfig(self, node: str) -> Path:
        """A kubeconfig file with the rights of one node's agent, and its Pod. Raises OperationError."""
        return self._service_account_kubeconfig(f"agent-{node}", service_account=AGENT_ACCOUNT, pod=agent_pod(node))

    def start_dynawatt(self) -> None:
        """Start the operator and one agent per node and wait until they answer. Raises OperationError."""
        components = [self._operator(), *(self._agent(node) for node in self.options.node_names())]
        start(self._state, components)
        wait_ready(self._state, components)
        self._write_targets()

    def start_operator(self) -> None:
        """Start the operator, after ``stop_operator``. Raises OperationError."""
        components = [self._operator()]
        start(self._state, components)
        wait_ready(self._state, components)
        self._write_targets()

    def start_agent(self, node: str) -> None:
        """Start the agent of a node once more, after its process has ended. Raises OperationError."""
        component = self._agent(node)
        start(self._state, [component])
        wait_ready(self._state, [component])
        self._write_targets()

    def stop_operator(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 30.0) -> None:
        """Signal the operator and wait until it is gone. Raises OperationError when it stays."""
        record = self.process("operator")
        send(record.identity, number)
        if wait_gone([record.identity], timeout_s=timeout_s):
            raise OperationError(f"the operator did not end {timeout_s:g} s after {number.name}{quote_log(record.log)}")
        del self._state.processes["operator"]
        self._state.save()

    def down(self) -> None:
        """End every process and delete every file."""
        bring_down(self.options.name)

    def _start_cluster(self, binaries: dict[str, Path], rules: Mapping[str, str]) -> None:
        state = self._state
        pki = controlplane.Pki(state.directory / "pki")
        tokens = new_tokens()
        write_private(pki.tokens, token_file(tokens))
        write_private(pki.signing_key, signing_key_pem())

        self._start_and_wait(controlplane.etcd(binaries["etcd"], state))
        etcd_url = self.process("etcd").url
        self._start_and_wait(controlplane.kube_apiserver(binaries["kube-apiserver"], pki=pki, etcd_url=etcd_url))
        for component, token in tokens.items():
            path = state.admin_kubeconfig if component == "admin" else self._kubeconfig_of(component)
            self._write_kubeconfig(path, user=component, token=token)

        components = [
            controlplane.kube_controller_manager(
                binaries["kube-controller-manager"],
                pki=pki,
                kubeconfig=self._kubeconfig_of("kube-controller-manager"),
            ),
            controlplane.kube_scheduler(
                binaries["kube-scheduler"],
                config=state.directory / "kube-scheduler.yaml",
                kubeconfig=self._kubeconfig_of("kube-scheduler"),
            ),
            controlplane.kwok(
                binaries["kwok"],
                stages=state.directory / "kwok.yaml",
                kubeconfig=self._kubeconfig_of("kwok"),
                state=state,
            ),
            monitoring.prometheus(
                binaries["prometheus"], kubeconfig=self._kubeconfig_of("prometheus"), state=state, rules=rules
            ),
            dynawatt_processes.nodesim(
                kubeconfig=self._kubeconfig_of("nodesim"),
                directory=self.nodesim_directory,
                pod_network=state.pod_network,
                driver=ensure_driver(),
            ),
        ]
        start(state, components)
        with self._api() as api:
            install(api, state.options)
            wait_ready(state, components)
            wait_until(state, "every node is Ready", lambda: nodes_are_ready(api, state.options))
            if not state.options.bare:
                wait_until(state, "dynawatt's resource types are served", lambda: serves_custom_resources(api))
            wait_until(state, "the default namespace has its service account", lambda: accepts_pods(api))

    def _start_and_wait(self, component: Component) -> None:
        start(self._state, [component])
        wait_ready(self._state, [component])

    def _operator(self) -> Component:
        return dynawatt_processes.operator(
            kubeconfig=self.operator_kubeconfig(),
            prometheus_url=self.prometheus_url,
            options=self.options,
        )

    def _write_targets(self) -> None:
        agents = dict(zip(self.options.node_names(), self.agent_urls(), strict=True))
        operators = [record.url for name, record in self._state.processes.items() if name == "operator"]
        monitoring.write_targets(self._state, operators, agents)

    def _agent(self, node: str) -> Component:
        return dynawatt_processes.agent(
            node=node,
            kubeconfig=self.agent_kubeconfig(node),
            nodesim_directory=self.nodesim_directory,
            driver=ensure_driver(),
            journal=self._state.directory / "journals" / node,
        )

    def _service_account_kubeconfig(
        self, component: str, *, service_account: str, pod: Mapping[str, Any] | None = None
    ) -> Path:
        with self._api() as api:
            bound_to = None if pod is None else api.apply(pod)
            token = api.service_account_token(namespace=DEFAULT_NAMESPACE, name=service_account, pod=bound_to)
        path = self._kubeconfig_of(component)
        self._write_kubeconfig(path, user=service_account, token=token)
        return path

    def _kubeconfig_of(self, component: str) -> Path:
        return self._state.kubeconfigs / f"{component}.yaml"

    def _write_kubeconfig(self, path: Path, *, user: str, token: str) -> None:
        certificate = controlplane.Pki(self._state.directory / "pki").certificate.read_bytes()
        server = self.process("kube-apiserver").url
        write_private(path, kubeconfig(server=server, certificate=certificate, user=user, token=token))

    def _api(self) -> ApiServer:
        return ApiServer(kubeconfig=self._state.admin_kubeconfig)


def bring_down(name: str) -> bool:
    """End the sandbox of this name, whatever state it is in; False when there was none. Raises OperationError."""
    check_name(name)
    if name not in existing_names():
        return False
    directory = directory_of(name)
    with locked_directory(directory), _uninterrupted():
        existed = any(directory.iterdir()) or bool(find_marked(directory))
        _remove(directory)
    return existed


def _new_state(directory: Path, options: SandboxOptions) -> SandboxState:
    with locked_directory(sandboxes_root()):
        others = (load_state(name) for name in existing_names())
        network = choose_pod_network({other.pod_network for other in others if other})
        state = SandboxState(directory=directory, options=options, pod_network=network)
        state.logs.mkdir()
        state.save()
    return state


def _can_be_reused(found: SandboxState, options: SandboxOptions) -> bool:
    """Whether it runs as asked; False when nothing of it is worth keeping. Raises when the user must decide."""
    dead = [record for record in found.processes.values() if not is_running(record.identity)]
    if not found.ready or len(dead) == len(found.processes):
        return False
    remedy = f"end it with: dynawatt sandbox down --name {options.name}"
    if differences := found.options.differences(options):
        raise InvalidInputError(
            f"sandbox {options.name!r} runs with other options ({'; '.join(differences)}): "
            f"choose another name or {remedy}"
        )
    if dead:
        raise OperationError(f"sandbox {options.name!r} is broken: {remedy}\n{explain_deaths(dead)}")
    return True


def _remove(directory: Path) -> None:
    end_all(directory)
    remove_files(directory)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back: half a clean-up would leave processes behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
