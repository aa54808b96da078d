"""The real agent process on a node of eight GPUs: what it costs, and how soon it acts.

Everything around it is what the sandbox has: NVML through pynvml and our C library, the kubelet's gRPC, the pages of
the pods, the API server, a Prometheus that scrapes it, and an operator that renews the Lease.
"""

import json
import os
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dynawatt.adapters.kubernetes.client import api_client, request_json, resource_path
from dynawatt.api.claims import ClaimTable, ClockClaim
from dynawatt.api.group import CLAIM_ANNOTATION, DEFAULT_NAMESPACE, LEASE_NAME
from dynawatt.governing.governor import ClockGovernor
from dynawatt.governing.reading import PodReading
from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.sandbox.cluster import Sandbox
from dynawatt.sandbox.driver.control import SimulatedDriver
from dynawatt.sandbox.nodesim.driver_bridge import driver_state_path
from dynawatt.sandbox.options import SandboxOptions

pytestmark = pytest.mark.bench

NODE = "gpu-node-0"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
PODS = resource_path("v1", "pods", namespace="default")
POD_COUNT = 8
IDLE_MHZ, CEILING_MHZ = 900, 1980
MEASURE_S = 60.0
SCRAPED_S = 300.0
# 900 MHz carry four requests, so a burst of more needs the ceiling.
CLAIM = ClockClaim(
    floor_megahertz=345,
    ceiling_megahertz=CEILING_MHZ,
    lease=f"{DEFAULT_NAMESPACE}/{LEASE_NAME}",
    service="default/bench",
    metrics_port=8000,
    table=ClaimTable(
        attainment=0.99, tbt=0.1, drain=0.5, prompt=200, kv=400, ttft=False,
        rows=[(IDLE_MHZ, 1.0, 8000.0, 4)],
    ),
).to_annotation()  # fmt: skip


class Node:
    """The sandbox's node and its agent, seen from outside."""

    def __init__(self, sandbox):
        self.api = api_client(sandbox.kubeconfig)
        self.driver = SimulatedDriver(driver_state_path(sandbox.nodesim_directory, NODE))
        agent = sandbox.process(f"agent-{NODE}")
        self._url, self._process = agent.url, Path("/proc", str(agent.identity.pid))
        self._gpus_url = f"{sandbox.nodesim_url}/nodes/{NODE}/gpus"
        self.addresses = {}
        """Of the pods, by the UUID of their GPU."""
        self.scraped_since_s = 0.0

    def cpu_s(self):
        """Processor time of the agent's process until now, in steps of 10 ms."""
        fields = (self._process / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, name):
        line = next(line for line in (self._process / "status").read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024 / 1e6

    def cpu_share(self, measure_s):
        before_s, began_s = self.cpu_s(), time.monotonic()
        time.sleep(measure_s)
        return (self.cpu_s() - before_s) / (time.monotonic() - began_s)

    def metric(self, name):
        return sum(sample.value for sample in page(f"{self._url}/metrics") if sample.name == name)

    def start_pods(self):
        """Eight vLLM pods with a GPU each, governed and slowed down as idle ones are."""
        for index in range(POD_COUNT):
            container = {
                "name": "vllm",
                "image": "vllm/vllm-openai:v0.32.0",
                "args": [f"--model={MODEL}"],
                "resources": {"limits": {"nvidia.com/gpu": "1"}},
            }
            metadata = {"name": f"bench-{index}", "annotations": {CLAIM_ANNOTATION: CLAIM}}
            spec = {"nodeName": NODE, "containers": [container]}
            request_json(self.api, "POST", PODS, body={"metadata": metadata, "spec": spec})
        eventually(lambda: len(set(self._holders().values())) == POD_COUNT)
        self.scraped_since_s = time.monotonic()
        eventually(lambda: {self.driver.read(uuid).clock_mhz for uuid in self.driver.uuids} == {IDLE_MHZ})
        pods = request_json(self.api, "GET", PODS)["items"]
        address = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in pods}
        self.addresses = {uuid: address[name] for uuid, name in self._holders().items()}

    def _holders(self):
        with urllib.request.urlopen(self._gpus_url, timeout=5) as answer:
            gpus = json.load(answer)["gpus"]
        return {gpu["uuid"]: gpu["pod"]["name"] for gpu in gpus if gpu["pod"]}


def page(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return [sample for family in families for sample in family.samples]


def eventually(check, *, within_s=120.0, every_s=0.1):
    deadline_s = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline_s, f"not true within {within_s} s"
        time.sleep(every_s)


@pytest.fixture(scope="module")
def node():
    sandbox = Sandbox.up(SandboxOptions(name=f"bench-agent-{os.getpid()}", nodes=1, startup_s=2))
    try:
        yield Node(sandbox)
    finally:
        sandbox.down()


@pytest.fixture(scope="module")
def busy(node):
    node.start_pods()
    return node


def test_idle(publish, node):
    time.sleep(10)
    share = node.cpu_share(MEASURE_S)
    assert node.metric("dynawatt_agent_cycle_failures_total") == 0
    publish(
        "agent_idle",
        f"without pods it uses {100 * share:.2f} % of a core (target 2 %)",
        gpus=len(node.driver.uuids),
        pods=0,
        cpu_share=share,
        rss_mb=node.memory_mb("VmRSS"),
    )


def test_cycle(publish, busy):
    cpu_s = busy.cpu_share(MEASURE_S)
    assert busy.metric("dynawatt_agent_claims") == POD_COUNT
    assert busy.metric("dynawatt_agent_claims_refused") == 0
    assert busy.metric("dynawatt_agent_cycle_failures_total") == 0
    publish(
        "agent",
        f"a cycle of {len(busy.driver.uuids)} GPUs and {POD_COUNT} pods takes {1e3 * cpu_s:.1f} ms of processor time, "
        "watches and scrapes of the agent itself included (target 30 ms)",
        gpus=len(busy.driver.uuids),
        pods=POD_COUNT,
        cycle_cpu_s=cpu_s,
        cycle_wall_s=busy.metric("dynawatt_agent_cycle_seconds"),
    )


def test_burst(publish, busy):
    """From the moment that a pod's page shows a burst until its GPU runs at the ceiling, one pod after the other."""
    took_s = [time_burst(busy.driver, uuid, address) for uuid, address in busy.addresses.items()]
    assert len(took_s) == POD_COUNT
    publish(
        "agent_burst",
        f"a burst in a pod's metrics reaches the clock after {median(took_s):.2f} s, at most {max(took_s):.2f} s "
        "(target 2 s)",
        bursts=len(took_s),
        median_s=median(took_s),
        longest_s=max(took_s),
    )


def time_burst(driver, uuid, address):
    assert driver.read(uuid).clock_mhz == IDLE_MHZ
    with ThreadPoolExecutor(8) as clients:
        for _ in range(8):
            clients.submit(complete, address)
        eventually(lambda: running(address) > 4, every_s=0.005)
        seen_s = time.monotonic()
        eventually(lambda: driver.read(uuid).clock_mhz == CEILING_MHZ, every_s=0.005)
        return time.monotonic() - seen_s


def complete(address):
    body = {"model": MODEL, "prompt": "word " * 200, "max_tokens": 400, "ignore_eos": True}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{address}:8000/v1/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60):
        pass


def running(address):
    samples = page(f"http://{address}:8000/metrics")
    return sum(sample.value for sample in samples if sample.name == "vllm:num_requests_running")


def test_memory(publish, busy):
    time.sleep(max(0.0, busy.scraped_since_s + SCRAPED_S - time.monotonic()))
    assert busy.metric("dynawatt_agent_claims") == POD_COUNT
    rss_mb, highest_mb = busy.memory_mb("VmRSS"), busy.memory_mb("VmHWM")
    publish(
        "agent_memory",
        f"after {SCRAPED_S / 60:.0f} min of {POD_COUNT} pods it has {rss_mb:.1f} MB, at most {highest_mb:.1f} MB "
        "(target 80 MB)",
        pods=POD_COUNT,
        scraped_s=SCRAPED_S,
        rss_mb=rss_mb,
        highest_rss_mb=highest_mb,
        private_mb=busy.memory_mb("RssAnon"),
    )


def test_governor_step(publish):
    rows = tuple(ClockRow(800 + 75 * i, 1.0 + i, 8e3 + i, 20 + 4 * i) for i in range(16))
    governor = ClockGovernor(GovernorTable(0.99, 0.1, 0.5, 1000.0, 400.0, False, rows), 800, 1980)
    took_s = []
    for second in range(3000):
        done = 4.0 * second
        reading = PodReading(20.0, 1.0, 0.1, done, done, done, 10 * done, 10 * done, 1e3 * done, 11 * done)
        before_s = time.perf_counter()
        governor.step(float(second), reading)
        took_s.append(time.perf_counter() - before_s)
    assert governor.clock_mhz < 1980
    publish("governor", f"a step takes {1e6 * median(took_s):.0f} us (target 50 us)", step_s=median(took_s))
