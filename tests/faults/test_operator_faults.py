import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from dynawatt.sandbox.processes import send

pytestmark = pytest.mark.integration

WAIT_S = 90.0
SLACK_S = 6.0  # agents look once per second and the machine may be busy


@pytest.fixture(scope="module")
def service(managed):
    service = managed("faulty")
    service.deploy(replicas=2)
    load = service.load()
    yield service
    assert load.stop().failed == 0


@pytest.fixture
def acting(service, dynawatt_sandbox, until):
    if "operator" not in {status.record.name for status in dynawatt_sandbox.status() if status.running}:
        dynawatt_sandbox.start_operator()
    service.manage()
    until(lambda: service.settled(1) and service.claimed(), within_s=WAIT_S)
    service.until("Ready", "True", "Reconciled")
    until(service.slowed, within_s=WAIT_S)
    return service


def test_killed_operator(acting, dynawatt_sandbox, dynawatt_kubectl, until, all_clocks_default):
    lease_s = dynawatt_sandbox.options.lease_duration_s
    dynawatt_sandbox.stop_operator(signal.SIGKILL)
    killed_s = time.monotonic()
    claims = acting.claims()
    until(all_clocks_default, within_s=lease_s + SLACK_S)
    assert time.monotonic() - killed_s > lease_s / 3  # the Lease was valid for a while, and so were the clocks
    assert acting.claims() == claims

    lease = dynawatt_kubectl.get("lease", "dynawatt-operator", "--namespace=dynawatt-system")["spec"]
    generation = acting.deployment()["metadata"]["generation"]
    dynawatt_sandbox.start_operator()
    until(acting.slowed, within_s=WAIT_S)
    successor = dynawatt_kubectl.get("lease", "dynawatt-operator", "--namespace=dynawatt-system")["spec"]
    assert successor["holderIdentity"] != lease["holderIdentity"]
    assert successor["leaseTransitions"] == lease["leaseTransitions"] + 1
    acting.until("Ready", "True", "Reconciled")
    assert acting.deployment()["metadata"]["generation"] == generation
    assert acting.status()["adopted"] == {"replicas": 2, "commanded": 1}


def test_stopped_prometheus(acting, dynawatt_sandbox, until):
    prometheus = dynawatt_sandbox.process("prometheus").identity
    generation, claims = acting.deployment()["metadata"]["generation"], acting.claims()
    send(prometheus, signal.SIGSTOP)
    try:
        message = acting.until("MetricsAvailable", "False", "MetricsQueryFailed")
        assert dynawatt_sandbox.prometheus_url in message
        assert acting.condition("Ready")[:2] == ("False", "MetricsQueryFailed")
        assert ("Warning", "MetricsQueryFailed") in acting.events()
        assert acting.deployment()["metadata"]["generation"] == generation
        assert acting.claims() == claims
        assert acting.slowed()
    finally:
        send(prometheus, signal.SIGCONT)
    acting.until("MetricsAvailable", "True", "MetricsFresh")
    acting.until("Ready", "True", "Reconciled")
    assert acting.deployment()["metadata"]["generation"] == generation


def test_unreachable_api(acting, dynawatt_sandbox, until, all_clocks_default):
    generation = acting.deployment()["metadata"]["generation"]
    api_server = dynawatt_sandbox.process("kube-apiserver").identity
    send(api_server, signal.SIGSTOP)
    try:
        until(all_clocks_default, within_s=dynawatt_sandbox.options.lease_duration_s + SLACK_S)
    finally:
        send(api_server, signal.SIGCONT)
    until(acting.slowed, within_s=WAIT_S)
    acting.until("Ready", "True", "Reconciled")
    assert acting.deployment()["metadata"]["generation"] == generation


def test_a_knob_is_given_back_without_metrics(acting, dynawatt_sandbox, until):
    prometheus = dynawatt_sandbox.process("prometheus").identity
    send(prometheus, signal.SIGSTOP)
    try:
        acting.manage(mode="Off")
        acting.until("Ready", "True", "SwitchedOff")
        assert acting.replicas() == 2
        assert not any(acting.claims())
    finally:
        send(prometheus, signal.SIGCONT)


def test_deletion_while_the_operator_is_away(acting, dynawatt_sandbox, dynawatt_kubectl, until, all_clocks_default):
    dynawatt_sandbox.stop_operator()
    dynawatt_kubectl("delete", "llmservice", acting.name, "--wait=false")
    # A pod that was taken out of the Deployment has a claim as well.
    [pod] = [pod for pod in acting.pods() if "deletionTimestamp" not in pod["metadata"]]
    name = pod["metadata"]["name"]
    dynawatt_kubectl("label", "pod", name, "app=orphan", "--overwrite")
    dynawatt_sandbox.start_operator()
    until(lambda: acting.name not in dynawatt_kubectl("get", "llmservices", "--output=name"), within_s=WAIT_S)
    assert acting.replicas() == 2
    assert not any(acting.claims())
    assert "dynawatt.dev/clock-claim" not in dynawatt_kubectl.get("pod", name)["metadata"].get("annotations", {})
    dynawatt_kubectl("delete", "pod", name)
    until(all_clocks_default, within_s=WAIT_S)


@pytest.fixture
def second_operator(dynawatt_sandbox, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {
        "kubeconfig": dynawatt_sandbox.directory / "kubeconfigs" / "operator.yaml",
        "prometheus-url": dynawatt_sandbox.prometheus_url,
        "observe-interval-s": 1,
        "plan-interval-s": 5,
        "rate-window-s": 10,
        "peak-window-s": 10,
        "time-lapse": 60,
        "lease-duration-s": round(dynawatt_sandbox.options.lease_duration_s),
        "metrics-port": port,
        "log-level": "debug",
    }
    command = [sys.executable, "-P", "-m", "dynawatt", "operator"]
    log = tmp_path / "operator.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())], stdout=output, stderr=output
        )
    yield log
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 0, log.read_text()[-2000:]


def holder(kubectl):
    return kubectl.get("lease", "dynawatt-operator", "--namespace=dynawatt-system")["spec"]["holderIdentity"]


def test_of_two_operators_only_the_holder_of_the_lease_acts(
    acting, dynawatt_sandbox, dynawatt_kubectl, until, second_operator
):
    first = holder(dynawatt_kubectl)
    until(lambda: f"waiting for lease holder={first}" in second_operator.read_text(), within_s=WAIT_S)
    assert acting.slowed()
    acting.manage(replicas={"min": 2, "max": 4})
    until(lambda: acting.replicas() == 2, within_s=WAIT_S)
    time.sleep(dynawatt_sandbox.options.lease_duration_s)
    assert holder(dynawatt_kubectl) == first
    assert "acquired" not in second_operator.read_text()

    dynawatt_sandbox.stop_operator()
    until(lambda: holder(dynawatt_kubectl) not in ("", first), within_s=WAIT_S)
    acting.manage()
    until(lambda: acting.replicas() == 1, within_s=WAIT_S)
    dynawatt_sandbox.start_operator()
