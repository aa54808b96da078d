"""An agent that is killed and that nobody starts again, as the operator sees it."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from dynawatt.sandbox.processes import send, wait_gone

pytestmark = pytest.mark.integration

WAIT_S = 90.0
STALE_S = 8


@pytest.fixture(scope="module")
def service(managed):
    service = managed("forsaken")
    service.deploy(replicas=2)
    load = service.load()
    yield service
    assert load.stop().failed == 0


@pytest.fixture
def impatient_operator(dynawatt_sandbox, tmp_path):
    """In the place of the sandbox's own: to that an agent is dead after minutes, not seconds."""
    dynawatt_sandbox.stop_operator()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "kubeconfig": dynawatt_sandbox.operator_kubeconfig(),
        "prometheus-url": dynawatt_sandbox.prometheus_url,
        "observe-interval-s": 1,
        "plan-interval-s": 5,
        "rate-window-s": 10,
        "peak-window-s": 10,
        "time-lapse": 60,
        "lease-duration-s": round(dynawatt_sandbox.options.lease_duration_s),
        "agent-stale-s": STALE_S,
        "metrics-port": port,
    }
    command = [sys.executable, "-P", "-m", "dynawatt", "operator"]
    with (tmp_path / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())], stdout=log, stderr=log
        )
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGTERM)
        process.wait(30)
        dynawatt_sandbox.start_operator()


@pytest.fixture
def node(service, impatient_operator, dynawatt_sandbox, until):
    """Where the only replica serves, at a clock that its agent chose; the agent runs afterwards."""
    service.manage()
    until(lambda: service.settled(1) and service.claimed(), within_s=WAIT_S)
    service.until("ClocksGoverned", "True", "ClaimsApplied")
    until(service.slowed, within_s=WAIT_S)
    [pod] = service.pods()
    name = pod["spec"]["nodeName"]
    yield name
    if f"agent-{name}" not in {status.record.name for status in dynawatt_sandbox.status() if status.running}:
        dynawatt_sandbox.start_agent(name)


def end_agent(sandbox, node, number):
    agent = sandbox.process(f"agent-{node}").identity
    send(agent, number)
    assert not wait_gone([agent], timeout_s=30)


def why(service):
    return service.status()["lastDecision"]["message"].partition(", because ")[2]


def test_a_killed_agent_leaves_clocks_that_the_plan_reckons_with(service, node, dynawatt_sandbox, until):
    end_agent(dynawatt_sandbox, node, signal.SIGKILL)
    message = service.until("ClocksGoverned", "Unknown", "AgentStale")
    assert message == f"no agent is heard of on {node}: GPUs there may be locked at 1500 MHz"
    assert service.slowed()
    until(lambda: why(service) == message, within_s=WAIT_S)
    assert service.status()["lastDecision"]["chosen"]["clockMegahertz"] == 1500
    assert ("Warning", "AgentStale") in service.events()
    service.until("Ready", "True", "Reconciled")

    dynawatt_sandbox.start_agent(node)
    service.until("ClocksGoverned", "True", "ClaimsApplied")
    until(lambda: not why(service), within_s=WAIT_S)
    until(service.slowed, within_s=WAIT_S)


def test_an_agent_that_stopped_in_order_has_left_nothing(service, node, dynawatt_sandbox, dynawatt_kubectl, until):
    end_agent(dynawatt_sandbox, node, signal.SIGTERM)
    gpus = dynawatt_kubectl.get("gpunode", node)["status"]["gpus"]
    assert not any("claim" in gpu for gpu in gpus)
    assert not service.slowed()
