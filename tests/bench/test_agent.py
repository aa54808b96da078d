"""CPU time of the agent's cycle on a node of eight vLLM pods, and of one governor step."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from statistics import median

import pytest

from dynawatt.adapters.pod_scraper import PodScraper
from dynawatt.agent.actuating import Actuator
from dynawatt.agent.loop import Agent
from dynawatt.governing.governor import ClockGovernor
from dynawatt.governing.reading import PodReading
from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.ports import PodKey
from dynawatt.sandbox.nodesim.vllm_metrics import VllmMetrics

pytestmark = pytest.mark.bench

PODS = 8
CYCLES = 120
LEASE = "dynawatt-system/dynawatt-operator"
TABLE = GovernorTable(
    0.99, 0.1, 0.5, 1000.0, 400.0, False, tuple(ClockRow(800 + 75 * i, 1.0 + i, 8e3 + i, 20 + 4 * i) for i in range(16))
)
SERVER = """
import http.server, sys
page = sys.stdin.buffer.read()
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 20
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class Gpu:
    product = "NVIDIA-H100-80GB-HBM3"

    def __init__(self, uuid):
        self.uuid = uuid

    def supported_clocks_mhz(self):
        return range(345, 1981, 15)

    def lock_clocks(self, min_mhz, max_mhz):
        pass

    def reset_clocks(self):
        pass

    def sm_clock_mhz(self):
        return 1980.0

    power_w = energy_j = sm_clock_mhz


class Node:
    """Eight pods with one GPU each, whose pages another process serves."""

    def __init__(self, port):
        claim = {
            "version": 2, "floorMegahertz": 800, "ceilingMegahertz": 1980, "lease": LEASE, "service": "prod/llama",
            "metricsPort": port, "table": TABLE.to_dict(),
        }  # fmt: skip
        status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        self.views, self.held, self.found = [], {}, []
        for index in range(PODS):
            self.held[PodKey("prod", f"p{index}")] = [f"GPU-{index}"]
            annotations = {"dynawatt.dev/clock-claim": json.dumps(claim)}
            metadata = {"namespace": "prod", "name": f"p{index}", "annotations": annotations}
            self.found.append({"metadata": metadata, "status": status})

    def gpus_by_pod(self):
        return self.held

    def pods(self):
        return self.found

    def pods_age_s(self):
        return 0.0

    def lease(self):
        spec = {"holderIdentity": "o", "leaseDurationSeconds": 30, "renewTime": datetime.now(UTC).isoformat()}
        return True, {"spec": spec}


@pytest.fixture
def port():
    metrics = VllmMetrics(
        model_name="m", max_model_len=131072, max_num_seqs=256, kv_capacity_tokens=500_000, created_unix_s=1.7e9
    )
    with subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        server.stdin.write(metrics.render().encode())
        server.stdin.close()
        yield int(server.stdout.readline())
        server.kill()


def test_cycle(publish, port):
    node, scraper = Node(port), PodScraper()
    agent = Agent(
        actuator=Actuator([Gpu(f"GPU-{index}") for index in range(PODS)]),
        allocations=node,
        pod_metrics=scraper,
        cluster=node,
        lease_name=LEASE,
        publish=node.views.append,
    )
    for _ in range(10):
        agent.cycle()
    cpu_s, wall_s = [], []
    for _ in range(CYCLES):
        before_s, began_s = time.process_time(), time.perf_counter()
        agent.cycle()
        cpu_s.append(time.process_time() - before_s)
        wall_s.append(time.perf_counter() - began_s)
    scraper.close()
    assert len(node.views[-1].governed) == PODS
    assert node.views[-1].scrape_failures == 0
    publish(
        "agent",
        f"a cycle with {PODS} pods takes {1e3 * median(cpu_s):.1f} ms of processor time, {1e3 * median(wall_s):.1f} ms",
        pods=PODS,
        cycle_cpu_s=median(cpu_s),
        cycle_wall_s=median(wall_s),
    )


def test_governor_step(publish):
    governor = ClockGovernor(TABLE, 800, 1980)
    took_s = []
    for second in range(3000):
        done = 4.0 * second
        reading = PodReading(20.0, 1.0, 0.1, done, done, done, 10 * done, 10 * done, 1e3 * done, 11 * done)
        before_s = time.perf_counter()
        governor.step(float(second), reading)
        took_s.append(time.perf_counter() - before_s)
    assert governor.clock_mhz < 1980
    publish("governor", f"a step takes {1e6 * median(took_s):.0f} us (target 50 us)", step_s=median(took_s))
