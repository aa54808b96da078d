import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge

from dynawatt.adapters.metrics_server import MetricsServer
from dynawatt.errors import OperationError


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    Gauge("things", "How many there are.", registry=registry).set(3)
    return registry


@pytest.fixture
def served(registry):
    """Serves with probes; what is unhealthy stands in its ``problem``."""
    problem = {"now": ""}
    server = MetricsServer(registry, address="127.0.0.1", port=0, probes={"/healthz": lambda: problem["now"]})
    server.start()
    yield server, problem
    server.stop()


def get(server, path, accept=""):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_in_the_format_that_is_asked_for(served):
    server, _ = served
    status, kind, text = get(server, "/metrics?x=1")
    assert (status, kind.partition(";")[0]) == (200, "text/plain")
    assert "things 3.0\n" in text
    _, kind, text = get(server, "/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_probes(served):
    server, problem = served
    assert get(server, "/healthz")[::2] == (200, "ok")
    problem["now"] = "it hangs"
    assert get(server, "/healthz")[::2] == (503, "it hangs")


def test_other_paths_are_refused(served, registry):
    assert get(served[0], "/")[::2] == (404, "there are /metrics and /healthz")
    bare = MetricsServer(registry, address="127.0.0.1", port=0)
    bare.start()
    assert get(bare, "/healthz")[::2] == (404, "there is /metrics")
    bare.stop()


def test_a_port_that_is_taken(registry):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperationError, match=f"metrics on 127.0.0.1:{port}: Address already in use; give another"):
            MetricsServer(registry, address="127.0.0.1", port=port)


def test_a_server_that_stopped_frees_its_port(registry):
    first = MetricsServer(registry, address="127.0.0.1", port=0)
    first.start()
    first.stop()
    again = MetricsServer(registry, address="127.0.0.1", port=first.port)
    again.stop()


def test_one_client_that_says_nothing_keeps_no_other_waiting(served):
    server, _ = served
    with socket.create_connection(("127.0.0.1", server.port)):
        assert get(server, "/metrics")[0] == 200
