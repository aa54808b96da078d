import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dynawatt.agent.exporting import ExportServer, NodeCollector
from dynawatt.errors import OperationError


@pytest.fixture
def exported(node: Any) -> Iterator[tuple[Any, NodeCollector, str]]:
    collector = NodeCollector("gpu-node-0")
    server = ExportServer(collector=collector, unhealthy=node.agent.unhealthy, address="127.0.0.1", port=0)
    server.start()
    yield node, collector, f"http://127.0.0.1:{server.port}"
    server.stop()


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(url: str) -> dict[tuple[str, ...], float]:
    """Values by metric name and the values of its labels other than the node."""
    found = {}
    for family in text_string_to_metric_families(get(f"{url}/metrics")[1]):
        for sample in family.samples:
            assert sample.labels.pop("node") == "gpu-node-0"
            found[sample.name, *sample.labels.values()] = sample.value
    return found


def test_metrics_of_a_cycle(exported: Any) -> None:
    node, collector, url = exported
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    collector.view = node.cycle()
    found = samples(url)
    assert found["dynawatt_gpu_energy_joules_total", "GPU-0", "prod", "a"] == pytest.approx(100.0)
    assert found["dynawatt_gpu_energy_joules_total", "GPU-1", "", ""] == pytest.approx(300.0)
    assert found["dynawatt_gpu_power_watts", "GPU-0", "prod", "a"] == 100.0
    assert found["dynawatt_gpu_sm_clock_hertz", "GPU-0", "prod", "a"] == 1.2e9
    assert found["dynawatt_gpu_sm_clock_hertz", "GPU-1", "", ""] == 1.98e9
    assert found["dynawatt_gpu_requested_clock_hertz", "GPU-0", "prod", "a"] == 1.2e9
    assert ("dynawatt_gpu_requested_clock_hertz", "GPU-1", "", "") not in found
    assert found["dynawatt_governor_clock_hertz", "prod", "a"] == 1.2e9
    reasons = {key[3]: value for key, value in found.items() if key[0] == "dynawatt_governor_reason"}
    assert reasons == {"starting": 1.0, "burning": 0.0, "settling": 0.0, "load": 0.0, "blind": 0.0}
    assert found["dynawatt_agent_scrape_failures_total",] == 0.0
    assert found["dynawatt_clock_set_failures_total", "lock"] == 0.0
    assert found["dynawatt_agent_cycle_failures_total",] == 0.0
    assert found["dynawatt_agent_cycle_seconds",] == 0.0
    assert found["dynawatt_agent_lease_age_seconds",] == 0.0
    assert found["dynawatt_agent_last_cycle_timestamp_seconds",] == 1.7e9 + node.now_s


def test_readings_that_failed_are_left_out(exported: Any) -> None:
    node, collector, url = exported
    node.gpus[0].broken.add("read")
    collector.view = node.cycle()
    gauges = {key[:2] for key in samples(url) if key[0] in {"dynawatt_gpu_power_watts", "dynawatt_gpu_sm_clock_hertz"}}
    assert ("dynawatt_gpu_power_watts", "GPU-0") not in gauges
    assert ("dynawatt_gpu_power_watts", "GPU-1") in gauges


def test_what_a_governor_does_and_why(exported: Any) -> None:
    node, collector, url = exported
    pod = node.place("a", 0, claim=(345, 1980))
    node.loads[pod].rate_rps = 0.0
    collector.view = node.run(200)
    found = samples(url)
    assert found["dynawatt_governor_clock_hertz", "prod", "a"] == 0.8e9
    assert found["dynawatt_gpu_requested_clock_hertz", "GPU-0", "prod", "a"] == 0.81e9  # what the GPU has of it
    assert found["dynawatt_governor_reason", "prod", "a", "load"] == 1.0
    node.loads[pod].problem = "timed out"
    collector.view = node.run(10)
    found = samples(url)
    assert found["dynawatt_governor_clock_hertz", "prod", "a"] == 1.98e9
    assert found["dynawatt_governor_reason", "prod", "a", "blind"] == 1.0
    assert found["dynawatt_governor_reason", "prod", "a", "load"] == 0.0
    assert found["dynawatt_agent_scrape_failures_total",] == 10.0


def test_nothing_before_the_first_cycle(exported: Any) -> None:
    _, _, url = exported
    assert get(f"{url}/metrics") == (200, "")


def test_health_follows_the_cycles(exported: Any) -> None:
    node, _, url = exported
    assert get(f"{url}/healthz") == (200, "ok")
    node.now_s += 10.0
    assert get(f"{url}/healthz") == (503, "the last complete cycle ended 10 s ago")
    node.cycle()
    assert get(f"{url}/healthz") == (200, "ok")


def test_other_paths_are_refused(exported: Any) -> None:
    assert get(f"{exported[2]}/")[0] == 404


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperationError, match=f"metrics on 127.0.0.1:{port}: Address already in use; give another"):
            ExportServer(collector=NodeCollector("n"), unhealthy=lambda: "", address="127.0.0.1", port=port)
