import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from dynawatt.agent.exporting import NodeCollector
from dynawatt.agent.metering import GONE, NOBODY, EnergyKey
from dynawatt.cli.demo import agents as demo_agents
from dynawatt.cli.demo.agents import Agents, NodeReading, energy_now, node_reading
from dynawatt.ports import GpuReading, PodKey

from ..agent.views import gpu_view, node_view

A = PodKey("default", "a")


def page(view):
    """As the agent's exporter writes it."""
    collector = NodeCollector("gpu-node-0")
    if view is not None:
        collector.view = view
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def gpu(uuid, clock_mhz, *, pod=None, power_w=100.0):
    reading = GpuReading(clock_mhz, power_w, 5e6, 41.0, frozenset())
    return gpu_view(uuid, pods=(pod,) if pod else (), reading=reading)


def test_a_node_is_read_from_its_agents_own_page():
    energy_j = {EnergyKey("GPU-0", A): 1000.0, EnergyKey("GPU-1", NOBODY): 500.0, EnergyKey("GPU-0", GONE): 25.0}
    view = node_view(gpu("GPU-0", 1200.0, pod=A), gpu("GPU-1", 1980.0, power_w=70.0), energy_j=energy_j)
    assert node_reading(page(view)) == NodeReading(
        unix_s=1.7e9, energy_j=1525.0, power_w=170.0, clocks_mhz=[1200.0, 1980.0], held_clocks_mhz=[1200.0]
    )


def test_a_gpu_that_does_not_answer_is_left_out():
    view = node_view(
        gpu("GPU-0", 1200.0, pod=A), gpu_view("GPU-1", reading=None), energy_j={EnergyKey("GPU-0", A): 1.0}
    )
    assert node_reading(page(view)).clocks_mhz == [1200.0]


@pytest.mark.parametrize("view", [None, node_view(energy_j={})], ids=["no cycle yet", "no energy yet"])
def test_an_agent_that_has_measured_nothing_is_no_node_without_energy(view):
    with pytest.raises(ValueError, match="the agent has measured nothing yet"):
        node_reading(page(view))


def test_readings_of_different_moments_are_carried_on_to_the_same_one(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    nodes = [NodeReading(999.5, 5000.0, 700.0, [], []), NodeReading(998.0, 2000.0, 100.0, [], [])]
    assert energy_now(nodes) == (1000.0, 5000.0 + 350.0 + 2000.0 + 200.0)


class Exporter:
    """Agents' pages over HTTP on loopback, by path."""

    def __init__(self):
        pages = self.pages = {}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = pages.get(self.path)
                self.send_response(200 if body is not None else 503)
                self.end_headers()
                self.wfile.write((body or "").encode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def agents(self, *names):
        return Agents(f"http://127.0.0.1:{self.server.server_address[1]}/{name}" for name in names)


@pytest.fixture
def exporter():
    exporter = Exporter()
    yield exporter
    exporter.server.shutdown()
    exporter.server.server_close()


def test_all_agents_are_asked(exporter, monkeypatch):
    for name, clock_mhz in (("one", 1200.0), ("two", 900.0)):
        view = node_view(gpu("GPU-0", clock_mhz, pod=A), energy_j={EnergyKey("GPU-0", A): clock_mhz})
        exporter.pages[f"/{name}/metrics"] = page(view)
    agents = exporter.agents("one", "two")
    assert [node.clocks_mhz for node in agents.read()] == [[1200.0], [900.0]]
    monkeypatch.setattr(demo_agents.time, "time", lambda: 1.7e9 + 1.0)
    assert agents.energy() == (1.7e9 + 1.0, 2100.0 + 2 * 100.0)


def test_an_agent_that_does_not_answer_is_an_error(exporter):
    exporter.pages["/one/metrics"] = page(node_view(energy_j={EnergyKey("GPU-0", A): 1.0}))
    with pytest.raises(httpx.HTTPError):
        exporter.agents("one", "two").read()


def test_without_agents_there_is_nothing_to_read():
    assert Agents([]).read() == []
