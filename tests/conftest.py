import asyncio
import json
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import settings
from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import api_client, resource_path
from dynawatt.adapters.kubernetes.watch import Watcher
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.controller.shapes.leaving import is_ready
from dynawatt.load.cluster import ObjectName, ServiceEndpoints
from dynawatt.load.replay import ReplayOptions, replay
from dynawatt.load.report import LoadReport
from dynawatt.sandbox.cluster import Sandbox
from dynawatt.workload.trace import Trace

from .sandboxes import Program, kubectl_of, running
from .waiting import until

MODEL: Final = "meta-llama/Llama-3.1-8B-Instruct"
settings.register_profile("dynawatt", deadline=None)  # how long a case takes depends on what else the machine does
settings.load_profile("dynawatt")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job of a shell: children would ignore it too
    signal.signal(signal.SIGINT, signal.default_int_handler)

PATIENCE_S: Final = 90.0
"""The machine may be busy with something else: long, because nothing here is about speed."""


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A control plane with nodes, Prometheus and simulated GPUs, in which no operator and no agent runs."""
    with running("plain", startup_s=2, dynawatt=False) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def dynawatt_sandbox() -> Iterator[Sandbox]:
    """The same with operator and agents, whose loops are short."""
    loops = {"plan_interval_s": 5, "observe_interval_s": 1, "rate_window_s": 10, "peak_window_s": 10}
    with running("full", startup_s=2, lease_duration_s=9, **loops) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def sandbox_kubectl(sandbox: Sandbox) -> Program:
    return kubectl_of(sandbox)


@pytest.fixture(scope="session")
def dynawatt_kubectl(dynawatt_sandbox: Sandbox) -> Program:
    return kubectl_of(dynawatt_sandbox)


@pytest.fixture(scope="session", name="until")
def waiting() -> Callable[..., Any]:
    """Wait for the first true answer and return it."""
    return until


class Load(threading.Thread):
    """Small requests at a steady rate, far below what one replica serves, until stopped."""

    def __init__(self, name: str, sandbox: Sandbox, *, every_s: float, output_tokens: int) -> None:
        super().__init__(daemon=True)
        self._every_s, self._output_tokens = every_s, output_tokens
        self._service = ObjectName("default", name)
        self._kubeconfig = sandbox.kubeconfig
        self._begun = threading.Event()
        self.report: LoadReport | None = None
        self.start()
        assert self._begun.wait(PATIENCE_S)

    def run(self) -> None:
        asyncio.run(self._replay())

    async def _replay(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        arrival_s = np.arange(0.0, 900.0, self._every_s)
        trace = Trace(arrival_s, np.full(len(arrival_s), 200), np.full(len(arrival_s), self._output_tokens))
        async with ServiceEndpoints(self._service, self._kubeconfig) as endpoints:
            options = ReplayOptions(model=MODEL, grace_s=10.0)
            self.report = await replay(trace, endpoints, options=options, stop=self._ending)

    def stop(self) -> LoadReport:
        self._loop.call_soon_threadsafe(self._ending.set)
        self.join(PATIENCE_S)
        assert self.report is not None
        return self.report


class Managed:
    """A vLLM Deployment and the LLMService that refers to it."""

    def __init__(self, sandbox: Sandbox, kubectl: Program, until: Callable[..., Any], name: str) -> None:
        self._sandbox, self._kubectl, self._until = sandbox, kubectl, until
        self.name = name

    def deploy(
        self,
        *,
        replicas: int = 2,
        tensor_parallel: int = 1,
        drain: bool = True,
        image: str = "vllm/vllm-openai:v0.18.0",
        edit: Callable[[dict[str, Any]], object] = lambda pod_spec: None,
    ) -> None:
        """Create or change Deployment and Service, and wait; ``edit`` changes the pod spec first."""
        labels = {"app": self.name}
        container = {
            "name": "server",
            "image": image,
            "args": [
                f"--model={MODEL}",
                f"--tensor-parallel-size={tensor_parallel}",
                *(["--shutdown-timeout=10"] if drain else []),
            ],
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"limits": {"nvidia.com/gpu": str(tensor_parallel)}},
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
        }
        pod_spec = {"terminationGracePeriodSeconds": 13, "containers": [container]}
        edit(pod_spec)
        template = {"metadata": {"labels": labels}, "spec": pod_spec}
        spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
        ports = [{"name": "http", "port": 8000, "targetPort": "http"}]
        self._apply("v1", "Service", {"selector": labels, "ports": ports})
        self._apply("apps/v1", "Deployment", spec)
        self._until(lambda: self.settled(replicas), within_s=PATIENCE_S)

    def manage(self, **spec: Any) -> None:
        """Create the LLMService, or change fields of its spec."""
        defaults = {
            "deploymentRef": {"name": self.name},
            "mode": "Auto",
            "knobs": ["Clock", "Replicas"],
            "slo": {"interTokenMilliseconds": 500, "timeToFirstToken": [{"milliseconds": 5000}]},
            "replicas": {"min": 1, "max": 4},
            "gpuClock": {"minMegahertz": 1500},  # few clocks are simulated quickly
        }
        self._apply("dynawatt.dev/v1alpha1", "LLMService", defaults | spec)

    def load(self, *, every_s: float = 0.3, output_tokens: int = 20) -> Load:
        return Load(self.name, self._sandbox, every_s=every_s, output_tokens=output_tokens)

    @contextmanager
    def watched(self) -> Iterator["Watched"]:
        """Everything that happens to its Deployments and pods meanwhile."""
        watched = Watched(self.name, api_client(self._sandbox.kubeconfig))
        try:
            yield watched
        finally:
            watched.stop()

    def delete(self, *kinds: str, wait: bool = True) -> None:
        options = ["--ignore-not-found", f"--wait={str(wait).lower()}", f"--timeout={PATIENCE_S:.0f}s"]
        self._kubectl("delete", ",".join(kinds), self.name, *options)

    def gone(self) -> bool:
        return not self._kubectl("get", "llmservices,deployments,pods", f"--selector=app={self.name}", "--output=name")

    def settled(self, replicas: int) -> bool:
        """Whether nothing about the Deployment and its pods is still under way."""
        found = self.deployment()
        counts = [found["status"].get(name, 0) for name in ("replicas", "readyReplicas")]
        return [found["spec"]["replicas"], len(self.pods()), *counts] == [replicas] * 4

    def llmservice(self) -> dict[str, Any]:
        return self._kubectl.get("llmservice", self.name)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.llmservice().get("status", {})
        return found

    def condition(self, type_: str) -> tuple[str, str, str]:
        """Status, reason and message, from a status that is for the present spec."""
        found = self.llmservice()
        status = found.get("status", {})
        if status.get("observedGeneration") != found["metadata"]["generation"]:
            return "", "", ""
        [condition] = [condition for condition in status["conditions"] if condition["type"] == type_]
        return condition["status"], condition["reason"], condition["message"]

    def until(self, type_: str, status: str, reason: str) -> str:
        """Wait for a condition; its message."""
        self._until(lambda: self.condition(type_)[:2] == (status, reason), within_s=PATIENCE_S)
        return self.condition(type_)[2]

    def events(self) -> set[tuple[str, str]]:
        """Types and reasons of the Events about the LLMService."""
        selector = f"involvedObject.kind=LLMService,involvedObject.name={self.name}"
        found = self._kubectl.get("events", f"--field-selector={selector}")
        return {(event["type"], event["reason"]) for event in found["items"]}

    def deployment(self) -> dict[str, Any]:
        return self._kubectl.get("deployment", self.name)

    def replicas(self) -> int:
        found: int = self.deployment()["spec"]["replicas"]
        return found

    def siblings(self) -> dict[str, dict[str, Any]]:
        """Deployments that dynawatt made for it, by name."""
        found = self._kubectl.get("deployments", f"--selector=app={self.name},dynawatt.dev/shape")["items"]
        return {each["metadata"]["name"]: each for each in found}

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._kubectl.get("pods", f"--selector=app={self.name}")["items"]
        return found

    def claims(self) -> list[str | None]:
        """Of every pod that is not stopping."""
        live = [pod["metadata"] for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]]
        return [metadata.get("annotations", {}).get(CLAIM_ANNOTATION) for metadata in live]

    def claimed(self) -> bool:
        claims = self.claims()
        return bool(claims) and all(claims)

    def clocks_mhz(self) -> set[int]:
        """Of the GPUs that its pods hold."""
        names = {pod["metadata"]["name"] for pod in self.pods()}
        return {gpu["smClockMhz"] for gpu in gpus(self._sandbox) if gpu["pod"] and gpu["pod"]["name"] in names}

    def slowed(self) -> bool:
        clocks = self.clocks_mhz()
        return bool(clocks) and DEFAULT_MHZ not in clocks

    def _apply(self, api_version: str, kind: str, spec: dict[str, Any]) -> None:
        metadata = {"name": self.name, "namespace": "default", "labels": {"app": self.name}}
        body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
        self._kubectl("apply", "--filename=-", stdin=json.dumps(body))


class Watched:
    """Deployments and pods of a service at every change, not only as often as they are looked at."""

    def __init__(self, name: str, api: ApiClient) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._moment: Callable[[Mapping[str, int], Mapping[str, int]], bool] = lambda *_: False
        self._then: Callable[[], object] = lambda: None
        self.fewest_serving = sys.maxsize
        """Ready pods that were not stopping."""
        self._watchers = [self._watcher(api, "v1", "pods"), self._watcher(api, "apps/v1", "deployments")]
        self._pods, self._deployments = self._watchers
        for watcher in self._watchers:
            watcher.start()
        assert all(watcher.synced.wait(PATIENCE_S) for watcher in self._watchers)

    def _watcher(self, api: ApiClient, api_version: str, plural: str) -> Watcher:
        path = resource_path(api_version, plural, namespace="default")
        return Watcher(api, path, label_selector=f"app={self._name}", on_event=self._look)

    def at(
        self, moment: Callable[[Mapping[str, int], Mapping[str, int]], bool], then: Callable[[], object]
    ) -> threading.Event:
        """Call ``then`` once, as soon as ``moment`` is true of what Deployments ask for and have Ready, by name."""
        done = threading.Event()

        def once() -> None:
            self._moment = lambda *_: False
            then()
            done.set()

        self._then, self._moment = once, moment
        return done

    def stop(self) -> None:
        for watcher in self._watchers:
            watcher.stop()

    def _look(self, *_: object) -> None:
        if all(watcher.synced.is_set() for watcher in self._watchers):
            with self._lock:
                self._count()

    def _count(self) -> None:
        pods = self._pods.snapshot().values()
        serving = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and is_ready(pod)]
        self.fewest_serving = min(self.fewest_serving, len(serving))
        found = {one["metadata"]["name"]: one for one in self._deployments.snapshot().values()}
        asked = {name: one["spec"]["replicas"] for name, one in found.items()}
        ready = {name: one["status"].get("readyReplicas", 0) for name, one in found.items()}
        if self._moment(asked, ready):
            self._then()


DEFAULT_MHZ: Final = 1980


def gpus(sandbox: Sandbox) -> list[dict[str, Any]]:
    """All simulated GPUs."""
    found: list[dict[str, Any]] = []
    for node in sandbox.options.node_names():
        with urllib.request.urlopen(f"{sandbox.nodesim_url}/nodes/{node}/gpus", timeout=10) as answer:
            found += json.load(answer)["gpus"]
    return found


@pytest.fixture(scope="session")
def all_clocks_default(dynawatt_sandbox: Sandbox) -> Callable[[], bool]:
    """Whether no GPU of the sandbox is held below its default clock."""
    return lambda: {gpu["smClockMhz"] for gpu in gpus(dynawatt_sandbox)} == {DEFAULT_MHZ}


@pytest.fixture(scope="module")
def managed(
    dynawatt_sandbox: Sandbox, dynawatt_kubectl: Program, until: Callable[..., Any]
) -> Iterator[Callable[[str], Managed]]:
    """Names a Deployment with its LLMService; they are gone when the module ends."""
    made: list[Managed] = []

    def make(name: str) -> Managed:
        made.append(Managed(dynawatt_sandbox, dynawatt_kubectl, until, name))
        return made[-1]

    yield make
    for service in made:
        service.delete("llmservice", "hpa", "service", "deployment", wait=False)
    until(lambda: all(service.gone() for service in made), within_s=PATIENCE_S)
