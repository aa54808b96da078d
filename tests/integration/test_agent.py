import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient
from prometheus_client.parser import text_string_to_metric_families

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    MERGE_PATCH,
    api_client,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.api.claims import ClaimTable, ClockClaim
from dynawatt.api.group import API_VERSION, CLAIM_ANNOTATION, GPUNODE_PLURAL, LEASE_NAME

pytestmark = pytest.mark.integration

# A node and a Lease of their own keep these tests apart from an operator and agents that may run in the sandbox.
NODE = "gpu-node-under-test"
NAMESPACE = "agent-test"
LEASE_S = 3
DEFAULT_MHZ = 1980.0
LEASES = resource_path("coordination.k8s.io/v1", "leases", namespace=NAMESPACE)
PODS = resource_path("v1", "pods", namespace=NAMESPACE)
GPUNODE = resource_path(API_VERSION, GPUNODE_PLURAL, name=NODE)


def eventually(check: Callable[[], Any], *, within_s: float = 15.0) -> Any:
    """The first true answer."""
    deadline_s = time.monotonic() + within_s
    while not (answer := check()):
        assert time.monotonic() < deadline_s, f"not true within {within_s} s"
        time.sleep(0.1)
    return answer


def delete(api: ApiClient, path: str) -> None:
    try:
        request_json(api, "DELETE", path, query={"gracePeriodSeconds": "0"})
    except API_ERRORS as error:
        if not is_not_found(error):
            raise


@pytest.fixture(scope="module")
def api(sandbox: Any) -> Iterator[ApiClient]:
    api = api_client(sandbox.kubeconfig)
    template = request_json(api, "GET", resource_path("v1", "nodes", name="gpu-node-0"))
    # Pods of other tests must not be scheduled here.
    node = {
        "metadata": {"name": NODE, "labels": {**template["metadata"]["labels"], "kubernetes.io/hostname": NODE}},
        "spec": {"unschedulable": True},
    }
    request_json(api, "POST", resource_path("v1", "namespaces"), body={"metadata": {"name": NAMESPACE}})
    request_json(api, "POST", resource_path("v1", "nodes"), body=node)
    account = resource_path("v1", "serviceaccounts", namespace=NAMESPACE, name="default")
    eventually(lambda: succeeds(api, account))
    yield api
    for path in (GPUNODE, resource_path("v1", "nodes", name=NODE), resource_path("v1", "namespaces", name=NAMESPACE)):
        delete(api, path)


def succeeds(api: ApiClient, path: str) -> bool:
    try:
        request_json(api, "GET", path)
    except API_ERRORS:
        return False
    return True


class Simulator:
    """The node's simulated GPUs, asked as nvidia-smi would be."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/nodes/{NODE}/gpus"

    def gpus(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(self._url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["gpus"]
            return found

    def clocks_mhz(self, *, held: bool) -> set[float]:
        return {gpu["smClockMhz"] for gpu in self.gpus() if (gpu["pod"] is not None) == held}

    def all_default(self) -> bool:
        return {gpu["smClockMhz"] for gpu in self.gpus()} == {DEFAULT_MHZ}


@pytest.fixture
def simulator(sandbox: Any, api: ApiClient) -> Simulator:
    return Simulator(sandbox.nodesim_url)


@pytest.fixture
def pod(api: ApiClient, simulator: Simulator) -> Iterator[str]:
    """A vLLM pod with two GPUs of the node; its URL path."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": ["--model=meta-llama/Llama-3.1-8B-Instruct", "--tensor-parallel-size=2"],
        "resources": {"limits": {"nvidia.com/gpu": "2"}},
    }
    body = {"metadata": {"name": "llama"}, "spec": {"nodeName": NODE, "containers": [container]}}
    request_json(api, "POST", PODS, body=body)
    eventually(lambda: simulator.clocks_mhz(held=True))
    yield f"{PODS}/llama"
    delete(api, f"{PODS}/llama")
    eventually(lambda: not simulator.clocks_mhz(held=True))


TOP_ONLY = ClaimTable(attainment=0.99, tbt=0.1, drain=0.5, prompt=200, kv=400, ttft=False, rows=[(5000, 1, 1, 1)])
"""No row below any ceiling: the governor stays there whatever the load."""
IDLE_OR_BUSY = TOP_ONLY.model_copy(update={"rows": ((900, 1.0, 8000.0, 4),)})
"""900 MHz carry hardly anything."""


@pytest.fixture
def claim(api: ApiClient, pod: str) -> Callable[..., None]:
    """Sets the highest clock that the pod's claim allows; None takes the claim away."""

    def annotate(max_mhz: int | None, table: ClaimTable = TOP_ONLY) -> None:
        text = None
        if max_mhz is not None:
            text = ClockClaim(
                floor_megahertz=345,
                ceiling_megahertz=max_mhz,
                lease=f"{NAMESPACE}/{LEASE_NAME}",
                service=f"{NAMESPACE}/llama",
                metrics_port=8000,
                table=table,
            ).to_annotation()
        patch = {"metadata": {"annotations": {CLAIM_ANNOTATION: text}}}
        request_json(api, "PATCH", pod, body=patch, content_type=MERGE_PATCH)

    return annotate


class Operator:
    """Renews the Lease as the operator does, until stopped."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        delete(api, f"{LEASES}/{LEASE_NAME}")
        spec = {"holderIdentity": "test", "leaseDurationSeconds": LEASE_S}
        request_json(api, "POST", LEASES, body={"metadata": {"name": LEASE_NAME}, "spec": spec})
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.5):
            renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            patch = {"spec": {"renewTime": renewed}}
            request_json(self._api, "PATCH", f"{LEASES}/{LEASE_NAME}", body=patch, content_type=MERGE_PATCH)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()


@pytest.fixture
def operator(api: ApiClient) -> Iterator[Operator]:
    operator = Operator(api)
    yield operator
    operator.stop()


class AgentProcess:
    """``dynawatt agent`` on the node under test."""

    def __init__(self, sandbox: Any, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        options = {
            "node-name": NODE,
            "kubeconfig": sandbox.kubeconfig,
            "simulated-gpus": sandbox.nodesim_url,
            "metrics-port": port,
            "namespace": NAMESPACE,
        }
        command = [sys.executable, "-m", "dynawatt", "agent", *(f"--{name}={value}" for name, value in options.items())]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/healthz") == "ok"
        except OSError:
            return False

    def end(self, number: signal.Signals) -> int:
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=15)


@pytest.fixture
def start_agent(sandbox: Any, tmp_path: Path) -> Iterator[Callable[[], AgentProcess]]:
    started: list[AgentProcess] = []

    def start() -> AgentProcess:
        started.append(AgentProcess(sandbox, tmp_path / "agent.log"))
        eventually(started[-1].healthy)
        return started[-1]

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.end(signal.SIGTERM)


def test_claims_are_followed_and_reported(
    api: ApiClient, simulator: Simulator, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(1207)
    eventually(lambda: simulator.clocks_mhz(held=True) == {1200.0})
    assert simulator.clocks_mhz(held=False) == {DEFAULT_MHZ}
    claim(907)
    eventually(lambda: simulator.clocks_mhz(held=True) == {900.0})

    node = eventually(lambda: governed(api, "ClaimsApplied"))
    assert node["status"]["summary"] == {
        "product": "NVIDIA-H100-80GB-HBM3",
        "gpuCount": len(simulator.gpus()),
        "allocated": 2,
        "claimed": 2,
    }
    held = [gpu for gpu in node["status"]["gpus"] if gpu.get("allocatedTo") == f"{NAMESPACE}/llama"]
    assert [gpu["claim"] for gpu in held] == [{"minMegahertz": 345, "maxMegahertz": 900}] * 2  # 907 is not supported

    labels = {"node": NODE, "gpu_uuid": held[0]["uuid"], "namespace": NAMESPACE, "pod": "llama"}
    eventually(lambda: exported(agent, labels)["dynawatt_gpu_sm_clock_hertz"] == 900e6)
    values = exported(agent, labels)
    assert values["dynawatt_gpu_requested_clock_hertz"] == 900e6
    assert values["dynawatt_gpu_energy_joules_total"] > 0.0
    assert values["dynawatt_gpu_power_watts"] > 0.0

    claim(None)
    eventually(simulator.all_default)
    eventually(lambda: governed(api, "NoClaims"))


def test_an_idle_pod_is_slowed_and_a_burst_brings_it_back_to_the_ceiling_at_once(
    api: ApiClient, simulator: Simulator, operator: Operator, pod: str, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(1980, IDLE_OR_BUSY)
    eventually(lambda: simulator.clocks_mhz(held=True) == {900.0}, within_s=90.0)
    assert reason(agent) == "load"
    address = request_json(api, "GET", pod)["status"]["podIP"]
    body = {"model": "meta-llama/Llama-3.1-8B-Instruct", "prompt": "word " * 200, "max_tokens": 300, "ignore_eos": True}

    def send() -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{address}:8000/v1/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60):
            pass

    clients = [threading.Thread(target=send) for _ in range(8)]
    for client in clients:
        client.start()
    eventually(lambda: running(address) > 4)
    seen_s = time.monotonic()
    eventually(simulator.all_default, within_s=10.0)
    print(f"a burst in /metrics reached the clocks after {time.monotonic() - seen_s:.2f} s")
    eventually(lambda: reason(agent) in {"load", "burning"})
    for client in clients:
        client.join()
    eventually(lambda: simulator.clocks_mhz(held=True) == {900.0}, within_s=90.0)


def running(address: str) -> float:
    with urllib.request.urlopen(f"http://{address}:8000/metrics", timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return sum(family.samples[0].value for family in families if family.name == "vllm:num_requests_running")


def reason(agent: AgentProcess) -> str:
    """Why the pod's governor chose its clock."""
    families = text_string_to_metric_families(agent.get("/metrics"))
    samples = [sample for family in families for sample in family.samples]
    found = [
        sample.labels["reason"] for sample in samples if sample.name == "dynawatt_governor_reason" and sample.value
    ]
    return found[0] if found else ""


def exported(agent: AgentProcess, labels: dict[str, str]) -> dict[str, float]:
    families = text_string_to_metric_families(agent.get("/metrics"))
    return {sample.name: sample.value for family in families for sample in family.samples if sample.labels == labels}


def governed(api: ApiClient, reason: str) -> Any:
    """The GPUNode, once it says that clocks are governed for this reason."""
    node = request_json(api, "GET", GPUNODE)
    reasons = [condition["reason"] for condition in node.get("status", {}).get("conditions", [])]
    return node if reasons == [reason] else None


def test_a_lease_that_is_not_renewed_ends_the_claim(
    api: ApiClient, simulator: Simulator, operator: Operator, claim: Any, start_agent: Any
) -> None:
    start_agent()
    claim(900)
    eventually(lambda: simulator.clocks_mhz(held=True) == {900.0})
    operator.stop()
    stopped_s = time.monotonic()
    eventually(simulator.all_default, within_s=LEASE_S + 3.0)
    assert time.monotonic() - stopped_s > LEASE_S - 1.5
    eventually(lambda: governed(api, "LeaseStale"))


def test_sigterm_brings_all_clocks_back(
    api: ApiClient, simulator: Simulator, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: simulator.clocks_mhz(held=True) == {900.0})
    assert agent.end(signal.SIGTERM) == 0
    eventually(simulator.all_default, within_s=1.0)
    assert request_json(api, "GET", GPUNODE)["status"]["summary"]["claimed"] == 0
    assert "Traceback" not in agent.log.read_text()


def test_after_sigkill_the_next_start_resets(
    simulator: Simulator, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: simulator.clocks_mhz(held=True) == {900.0})
    agent.end(signal.SIGKILL)
    assert simulator.clocks_mhz(held=True) == {900.0}
    operator.stop()
    start_agent()
    eventually(simulator.all_default)
