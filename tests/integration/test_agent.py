import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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
from dynawatt.api.group import API_VERSION, CLAIM_ANNOTATION, DEFAULT_NAMESPACE, GPUNODE_PLURAL, LEASE_NAME
from dynawatt.api.switch import SWITCH_NAME
from dynawatt.sandbox.driver.build import ensure_driver
from dynawatt.sandbox.driver.control import SimulatedDriver
from dynawatt.sandbox.driver.statefile import StateFile
from dynawatt.sandbox.dynawatt_processes import agent as agent_component
from dynawatt.sandbox.install import agent_pod
from dynawatt.sandbox.nodesim.driver_bridge import driver_state_path
from dynawatt.sandbox.processes import send

pytestmark = pytest.mark.integration

# A node of its own, which pods of other tests are not scheduled to.
NODE = "gpu-node-under-test"
NAMESPACE = "agent-test"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
LEASE_S = 3
DEFAULT_MHZ = 1980.0
MIN_MHZ = 345
LEASES = resource_path("coordination.k8s.io/v1", "leases", namespace=DEFAULT_NAMESPACE)
SWITCHES = resource_path("v1", "configmaps", namespace=DEFAULT_NAMESPACE)
PODS = resource_path("v1", "pods", namespace=NAMESPACE)
GPUNODE = resource_path(API_VERSION, GPUNODE_PLURAL, name=NODE)
# Of the difference between two readings of a counter: NVML tells mJ, and the agent keeps 1024ths of a J.
RESOLUTION_J = 1 / 1000 + 1 / 1024


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


class Hardware:
    """What the node's GPUs really do, from the files of their driver and from the simulator."""

    def __init__(self, sandbox: Any) -> None:
        path = driver_state_path(sandbox.nodesim_directory, NODE)
        eventually(path.exists)
        self.driver = SimulatedDriver(path)
        self._file = StateFile(path)
        self._url = f"{sandbox.nodesim_url}/nodes/{NODE}/gpus"
        self._simulator = sandbox.process("nodesim").identity

    def close(self) -> None:
        self.driver.close()
        self._file.close()

    def gpus(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(self._url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["gpus"]
            return found

    def held(self) -> set[str]:
        return {gpu["uuid"] for gpu in self.gpus() if gpu["pod"] is not None}

    def clocks_mhz(self, *, held: bool) -> set[float]:
        return {gpu["smClockMhz"] for gpu in self.gpus() if (gpu["pod"] is not None) == held}

    def locked_mhz(self) -> dict[str, tuple[int, int]]:
        """Of the GPUs that are locked."""
        ranges = {uuid: self.driver.locked_mhz(uuid) for uuid in self.driver.uuids}
        return {uuid: locked for uuid, locked in ranges.items() if locked is not None}

    def all_default(self) -> bool:
        return not self.locked_mhz() and {gpu["smClockMhz"] for gpu in self.gpus()} == {DEFAULT_MHZ}

    def energy_j(self) -> dict[str, float]:
        return {uuid: self.driver.read(uuid).energy_j for uuid in self.driver.uuids}

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the simulator between two of its writes, so that no counter moves."""
        for _ in range(20):
            send(self._simulator, signal.SIGSTOP)
            time.sleep(0.02)
            with self._file.try_locked() as is_between:
                if is_between:
                    break
            send(self._simulator, signal.SIGCONT)
        try:
            assert is_between
            yield
        finally:
            send(self._simulator, signal.SIGCONT)


@pytest.fixture(scope="module")
def hardware(sandbox: Any, api: ApiClient) -> Iterator[Hardware]:
    hardware = Hardware(sandbox)
    yield hardware
    hardware.close()


@pytest.fixture
def pod(api: ApiClient, hardware: Hardware) -> Iterator[str]:
    """A vLLM pod with two GPUs of the node; its URL path."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": [f"--model={MODEL}", "--tensor-parallel-size=2"],
        "resources": {"limits": {"nvidia.com/gpu": "2"}},
    }
    body = {"metadata": {"name": "llama"}, "spec": {"nodeName": NODE, "containers": [container]}}
    request_json(api, "POST", PODS, body=body)
    eventually(lambda: hardware.clocks_mhz(held=True))
    yield f"{PODS}/llama"
    delete(api, f"{PODS}/llama")
    eventually(lambda: not hardware.clocks_mhz(held=True))


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
                floor_megahertz=MIN_MHZ,
                ceiling_megahertz=max_mhz,
                lease=f"{DEFAULT_NAMESPACE}/{LEASE_NAME}",
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
    delete(api, f"{LEASES}/{LEASE_NAME}")


@pytest.fixture
def switch(api: ApiClient) -> Iterator[Callable[[str], None]]:
    """Sets the cluster-wide switch."""
    path = f"{SWITCHES}/{SWITCH_NAME}"

    def set_to(enabled: str) -> None:
        delete(api, path)
        request_json(api, "POST", SWITCHES, body={"metadata": {"name": SWITCH_NAME}, "data": {"enabled": enabled}})

    yield set_to
    delete(api, path)


class Metrics:
    """What one page tells."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float | None:
        """Sum of all samples with these labels, of which they may have more; None without any."""
        found = [each.value for each in self._samples if each.name == name and labels.items() <= each.labels.items()]
        return sum(found) if found else None

    def of(self, labels: Mapping[str, str]) -> dict[str, float]:
        """All samples with these labels and no other."""
        return {sample.name: sample.value for sample in self._samples if sample.labels == labels}

    def chosen(self, name: str, label: str) -> str:
        """The value of a label where the sample is 1."""
        return next((each.labels[label] for each in self._samples if each.name == name and each.value), "")


class AgentProcess:
    """``dynawatt agent`` on the node under test, as the sandbox would start it."""

    def __init__(self, sandbox: Any, kubeconfig: Path, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "agent.log"
        self.journal = directory / "journal"
        component = agent_component(
            node=NODE,
            kubeconfig=kubeconfig,
            nodesim_directory=sandbox.nodesim_directory,
            driver=ensure_driver(),
            journal=self.journal,
        )
        self.environment = os.environ | component.environment
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(component.command(port), env=self.environment, stdout=output, stderr=output)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def metrics(self) -> Metrics:
        return Metrics(self.get("/metrics"))

    def later_metrics(self) -> Metrics:
        """Of a cycle that has not begun yet."""
        ended = "dynawatt_agent_last_cycle_timestamp_seconds"
        for _ in range(2):
            before_s = self.metrics().total(ended)
            eventually(lambda before_s=before_s: self.metrics().total(ended) != before_s)
        return self.metrics()

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/healthz") == "ok"
        except OSError:
            return False

    def reset_all(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dynawatt", "agent", "reset-all", f"--journal-dir={self.journal}"]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def end(self, number: signal.Signals) -> int:
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=15)


@pytest.fixture(scope="module")
def kubeconfig(sandbox: Any, api: ApiClient) -> Iterator[Path]:
    """With the rights of this node's agent, by a token that is bound to a Pod there."""
    yield sandbox.agent_kubeconfig(NODE)
    name = agent_pod(NODE)["metadata"]["name"]
    delete(api, resource_path("v1", "pods", namespace=DEFAULT_NAMESPACE, name=name))


@pytest.fixture
def start_agent(sandbox: Any, hardware: Hardware, kubeconfig: Path, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    started: list[AgentProcess] = []

    def start() -> AgentProcess:
        started.append(AgentProcess(sandbox, kubeconfig, tmp_path))
        eventually(started[-1].healthy)
        return started[-1]

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.end(signal.SIGTERM)


def governed(api: ApiClient, reason: str) -> Any:
    """The GPUNode, once it says that clocks are governed for this reason."""
    node = request_json(api, "GET", GPUNODE)
    conditions = node.get("status", {}).get("conditions", [])
    reasons = [condition["reason"] for condition in conditions if condition["type"] == "ClocksGoverned"]
    return node if reasons == [reason] else None


def test_claims_are_followed_and_reported(
    api: ApiClient, hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(1207)
    eventually(lambda: hardware.clocks_mhz(held=True) == {1200.0})
    assert hardware.clocks_mhz(held=False) == {DEFAULT_MHZ}
    assert hardware.locked_mhz() == dict.fromkeys(hardware.held(), (MIN_MHZ, 1200))
    claim(907)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})

    node = eventually(lambda: governed(api, "ClaimsApplied"))
    assert node["status"]["summary"] == {
        "product": "NVIDIA H100 80GB HBM3",
        "gpuCount": len(hardware.gpus()),
        "allocated": 2,
        "claimed": 2,
        "energyOnly": 0,
    }
    held = [gpu for gpu in node["status"]["gpus"] if gpu.get("allocatedTo") == f"{NAMESPACE}/llama"]
    assert [gpu["claim"] for gpu in held] == [{"minMegahertz": 345, "maxMegahertz": 900}] * 2  # 907 is not supported
    assert {(gpu["clockMethod"], gpu["energySource"], gpu["health"]) for gpu in node["status"]["gpus"]} == {
        ("LockedClocks", "Counter", "Healthy")
    }

    labels = {"node": NODE, "gpu_uuid": held[0]["uuid"], "namespace": NAMESPACE, "pod": "llama"}
    eventually(lambda: agent.metrics().of(labels)["dynawatt_gpu_sm_clock_hertz"] == 900e6)
    values = agent.metrics().of(labels)
    assert values["dynawatt_gpu_requested_clock_hertz"] == 900e6
    assert values["dynawatt_gpu_energy_joules_total"] > 0.0
    assert values["dynawatt_gpu_power_watts"] > 0.0

    claim(None)
    eventually(hardware.all_default)
    eventually(lambda: governed(api, "NoClaims"))


class Clients:
    """Completions of a known length, each by a thread of its own."""

    def __init__(self, address: str, *, requests: int, tokens: int) -> None:
        self._url = f"http://{address}:8000"
        self._tokens = tokens
        self._threads = [threading.Thread(target=self._complete) for _ in range(requests)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def running(self) -> float:
        """Requests that the pod works on, as it tells itself."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=5) as answer:
            return Metrics(answer.read().decode()).total("vllm:num_requests_running") or 0.0

    def _complete(self) -> None:
        body = {"model": MODEL, "prompt": "word " * 200, "max_tokens": self._tokens, "ignore_eos": True}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}/v1/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60):
            pass


@pytest.fixture
def clients(api: ApiClient, pod: str) -> Callable[..., Clients]:
    eventually(lambda: is_ready(request_json(api, "GET", pod)))
    address = request_json(api, "GET", pod)["status"]["podIP"]
    return lambda *, requests=8, tokens=300: Clients(address, requests=requests, tokens=tokens)


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def test_an_idle_pod_is_slowed_and_a_burst_brings_it_back_to_the_ceiling_at_once(
    hardware: Hardware, operator: Operator, claim: Any, start_agent: Any, clients: Any
) -> None:
    agent = start_agent()
    claim(1980, IDLE_OR_BUSY)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0}, within_s=90.0)
    assert agent.metrics().chosen("dynawatt_governor_reason", "reason") == "load"
    with clients() as burst:
        eventually(lambda: burst.running() > 4)
        seen_s = time.monotonic()
        eventually(lambda: hardware.clocks_mhz(held=True) == {DEFAULT_MHZ}, within_s=10.0)
        print(f"a burst in /metrics reached the clocks after {time.monotonic() - seen_s:.2f} s")
        eventually(lambda: agent.metrics().chosen("dynawatt_governor_reason", "reason") in {"load", "burning"})
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0}, within_s=90.0)


GPU_ENERGY = "dynawatt_gpu_energy_joules_total"
NODE_ENERGY = "dynawatt_node_energy_joules_total"


def test_energy_is_what_the_gpus_counted(hardware: Hardware, start_agent: Any, clients: Any) -> None:
    agent = start_agent()
    eventually(lambda: agent.metrics().total(GPU_ENERGY, namespace=NAMESPACE, pod="llama") is not None)
    with hardware.frozen():
        before, before_j = agent.later_metrics(), hardware.energy_j()
    with clients():
        time.sleep(3.0)
    with hardware.frozen():
        after, after_j = agent.later_metrics(), hardware.energy_j()

    counted_j = {uuid: after_j[uuid] - before_j[uuid] for uuid in after_j}
    told_j = {
        uuid: after.total(GPU_ENERGY, gpu_uuid=uuid) - before.total(GPU_ENERGY, gpu_uuid=uuid) for uuid in after_j
    }
    assert min(counted_j.values()) > 200.0  # 3 s of a GPU that nobody holds, which draws 70 W
    assert told_j == pytest.approx(counted_j, abs=RESOLUTION_J)
    of_pod_j = [each.total(GPU_ENERGY, namespace=NAMESPACE, pod="llama") for each in (before, after)]
    assert of_pod_j[1] - of_pod_j[0] == pytest.approx(
        sum(counted_j[uuid] for uuid in hardware.held()), abs=2 * RESOLUTION_J
    )
    for page in (before, after):
        pods_j, idle_j = page.total("dynawatt_pod_energy_joules_total"), page.total(GPU_ENERGY, namespace="", pod="")
        assert page.total(NODE_ENERGY) == page.total(GPU_ENERGY) == pods_j + idle_j  # to the last bit


def test_joules_per_token_are_the_joules_and_tokens_of_the_same_pod(start_agent: Any, clients: Any) -> None:
    agent = start_agent()
    of_pod = {"namespace": NAMESPACE, "pod": "llama"}

    def tokens(page: Metrics) -> float | None:
        return page.total("dynawatt_pod_tokens_total", **of_pod, kind="generation")

    def energy_j(page: Metrics) -> float:
        return page.total("dynawatt_pod_energy_joules_total", **of_pod) or 0.0

    def energy_before_reading_j(page: Metrics) -> float:
        """What the pod had used when it was first read, if the ratio is that of what came since."""
        return energy_j(page) - page.total("dynawatt_pod_energy_per_token_joules", **of_pod) * tokens(page)

    def page_with(has: Callable[[float], bool]) -> Metrics | None:
        page = agent.metrics()
        return page if (found := tokens(page)) is not None and has(found) else None

    first = eventually(lambda: page_with(lambda found: found >= 0))
    with clients():
        early = eventually(lambda: page_with(lambda found: found > 0))
    late = eventually(lambda: page_with(lambda found: found == 8 * 300))
    assert tokens(first) == 0.0
    assert 0.0 < tokens(early) < tokens(late)
    assert energy_before_reading_j(late) == pytest.approx(energy_before_reading_j(early), abs=0.01)
    assert 0.0 <= energy_before_reading_j(late) <= energy_j(first)


def test_a_lease_that_is_not_renewed_ends_the_claim(
    api: ApiClient, hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    operator.stop()
    stopped_s = time.monotonic()
    eventually(hardware.all_default, within_s=LEASE_S + 3.0)
    assert time.monotonic() - stopped_s > LEASE_S - 1.5
    eventually(lambda: governed(api, "LeaseStale"))


def test_the_switch_lets_all_clocks_go_until_it_is_on_again(
    api: ApiClient, hardware: Hardware, operator: Operator, claim: Any, start_agent: Any, switch: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    switch("false")
    eventually(hardware.all_default)
    node = eventually(lambda: governed(api, "ClocksSwitchedOff"))
    assert node["status"]["summary"]["claimed"] == 0
    assert agent.metrics().total("dynawatt_agent_switched_off") == 1.0
    claim(1200)
    time.sleep(3.0)
    assert hardware.all_default()
    switch("true")
    eventually(lambda: hardware.clocks_mhz(held=True) == {1200.0})
    eventually(lambda: governed(api, "ClaimsApplied"))


def test_sigterm_brings_all_clocks_back(
    api: ApiClient, hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    assert agent.end(signal.SIGTERM) == 0
    eventually(hardware.all_default, within_s=1.0)
    assert request_json(api, "GET", GPUNODE)["status"]["summary"]["claimed"] == 0
    assert "Traceback" not in agent.log.read_text()


def test_after_sigkill_the_next_start_resets(
    hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    agent.end(signal.SIGKILL)
    assert hardware.clocks_mhz(held=True) == {900.0}
    operator.stop()
    start_agent()
    eventually(hardware.all_default)


def test_reset_all_is_for_a_node_without_an_agent(
    hardware: Hardware, operator: Operator, claim: Any, start_agent: Any
) -> None:
    agent = start_agent()
    claim(900)
    eventually(lambda: hardware.clocks_mhz(held=True) == {900.0})
    refused = agent.reset_all()
    assert refused.returncode == 1, refused.stderr
    assert refused.stderr.count("\n") == 1
    assert hardware.clocks_mhz(held=True) == {900.0}
    agent.end(signal.SIGKILL)
    done = agent.reset_all()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "8 of 8 GPUs are at their default clocks\n"
    eventually(hardware.all_default, within_s=1.0)
