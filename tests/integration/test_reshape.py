import json
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from dynawatt.sandbox.processes import send

pytestmark = pytest.mark.integration

WAIT_S = 150.0
TICKS_S = 4.0  # a few looks of the operator
CPU = 8  # of a replica
RESHAPING = {"knobs": ["Clock", "Shape"], "tensorParallelSizes": [1, 4]}


def ask_for_cpu(pod_spec):
    pod_spec["containers"][0]["resources"]["requests"] = {"cpu": CPU}


@pytest.fixture(scope="module")
def service(managed):
    """Two replicas on four GPUs each, far more than its load needs; no request fails whatever the tests do."""
    service = managed("reshape")
    service.deploy(replicas=2, tensor_parallel=4, edit=ask_for_cpu)
    load = service.load(every_s=1.0, output_tokens=200)  # one is in flight at nearly any time
    yield service
    report = load.stop()
    assert report.succeeded > 30
    assert report.failed == 0


@pytest.fixture
def wide(service, until):
    """As it was deployed; observed, so that there is a plan at once when it may be carried out."""
    service.manage(**RESHAPING, mode="Recommend")
    service.until("Ready", "True", "Recommending")
    until(lambda: service.settled(2) and not service.siblings(), within_s=WAIT_S)
    return service


@pytest.fixture
def narrow(service, until):
    """Reshaped to one replica on one GPU."""
    service.manage(**RESHAPING)
    until(lambda: reshaped(service), within_s=WAIT_S)
    service.until("Ready", "True", "Reconciled")
    return service


def serving(deployment):
    return deployment["spec"]["replicas"], deployment["status"].get("readyReplicas", 0)


def reshaped(service):
    """Whether the sibling of one GPU serves alone."""
    siblings = list(service.siblings().values())
    alone = len(siblings) == 1 and serving(siblings[0]) == (1, 1) and serving(service.deployment()) == (0, 0)
    return alone and len(service.pods()) == 1


def test_tensor_parallelism_changes_there_and_back(wide, until, all_clocks_default):
    before = wide.deployment()["spec"]
    with wide.watched() as watched:
        wide.manage(**RESHAPING)
        until(lambda: reshaped(wide), within_s=WAIT_S)
        [sibling] = wide.siblings().values()
        container = sibling["spec"]["template"]["spec"]["containers"][0]
        assert container["args"][-1] == "--tensor-parallel-size=1"
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert "ownerReferences" not in sibling["metadata"]
        wide.until("Ready", "True", "Reconciled")
        until(lambda: wide.status().get("reshape") is None, within_s=WAIT_S)
        until(lambda: len(wide.claims()) == 1 and wide.claimed(), within_s=WAIT_S)
        status = wide.status()
        assert status["adopted"]["replicas"] == 2
        assert status["summary"]["tensorParallelSize"] == "4,1"
        assert status["lastDecision"]["chosen"]["tensorParallelSize"] == 1
        assert "Shape" in {change["knob"] for change in status["lastChanges"]}

        wide.delete("llmservice")
        until(lambda: wide.settled(2), within_s=WAIT_S)
        assert wide.deployment()["spec"] == before
        assert wide.siblings() == {}
        until(all_clocks_default, within_s=WAIT_S)
    assert watched.fewest_serving == 1


def closed_window():
    """Opens for an hour some months from now."""
    month = (datetime.now(UTC).month + 5) % 12 + 1
    return {"schedule": f"0 0 1 {month} *", "durationMinutes": 60}


def test_nothing_is_reshaped_outside_the_change_windows(wide, until):
    before = wide.deployment()["metadata"]["generation"]
    wide.manage(**RESHAPING, changeWindows=[closed_window()])
    message = wide.until("Progressing", "False", "OutsideChangeWindow")
    assert "the next change window opens at" in message
    until(wide.slowed, within_s=WAIT_S)  # clocks are always governed
    time.sleep(TICKS_S)
    assert wide.siblings() == {}
    assert wide.deployment()["metadata"]["generation"] == before

    wide.manage(**RESHAPING, changeWindows=[closed_window(), {"schedule": "* * * * *", "durationMinutes": 60}])
    until(lambda: reshaped(wide), within_s=WAIT_S)


def test_a_disruption_budget_holds_the_old_shape(wide, dynawatt_kubectl, until):
    spec = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": wide.name}}}
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": wide.name}, "spec": spec}
    dynawatt_kubectl("apply", "--filename=-", stdin=json.dumps(budget))
    try:
        wide.manage(**RESHAPING)
        message = wide.until("Progressing", "False", "DisruptionNotAllowed")
        assert "PodDisruptionBudget" in message
        time.sleep(TICKS_S)
        assert serving(wide.deployment()) == (2, 2)
        assert [serving(sibling) for sibling in wide.siblings().values()] == [(1, 1)]
    finally:
        dynawatt_kubectl("delete", "pdb", wide.name)
    until(lambda: reshaped(wide), within_s=WAIT_S)


def test_an_edit_of_the_template_rolls_through(narrow, dynawatt_kubectl, until):
    [(name, before)] = narrow.siblings().items()
    [old] = narrow.pods()
    with narrow.watched() as watched:
        dynawatt_kubectl("set", "env", f"deployment/{narrow.name}", "EDITED=yes")
        until(
            lambda: old["metadata"]["name"] not in {pod["metadata"]["name"] for pod in narrow.pods()}, within_s=WAIT_S
        )
    until(lambda: reshaped(narrow), within_s=WAIT_S)
    [pod] = narrow.pods()
    container = pod["spec"]["containers"][0]
    assert container["env"] == [{"name": "EDITED", "value": "yes"}]
    assert container["args"][-1] == "--tensor-parallel-size=1"
    assert narrow.siblings()[name]["metadata"]["uid"] == before["metadata"]["uid"]
    assert watched.fewest_serving == 1


def test_a_sibling_that_somebody_scales_is_not_fought_over(narrow, dynawatt_kubectl, until):
    [name] = narrow.siblings()
    dynawatt_kubectl("scale", "deployment", name, "--replicas=2")
    message = narrow.until("Conflicting", "True", "ForeignWrite")
    assert "'kubectl' set 2 replicas" in message
    assert name in message
    assert narrow.condition("Ready")[:2] == ("False", "ForeignWrite")
    until(lambda: serving(narrow.siblings()[name]) == (2, 2), within_s=WAIT_S)
    until(narrow.claimed, within_s=WAIT_S)  # clocks still follow the load
    time.sleep(TICKS_S)
    assert serving(narrow.siblings()[name]) == (2, 2)

    narrow.manage(mode="Off")  # as the message says
    narrow.until("Ready", "True", "SwitchedOff")
    assert narrow.siblings() == {}
    assert serving(narrow.deployment()) == (2, 2)
    narrow.manage(**RESHAPING)
    narrow.until("Conflicting", "False", "NoConflict")


@pytest.fixture
def no_free_cpu(wide, dynawatt_sandbox, dynawatt_kubectl):
    """Pods of others on both nodes: GPUs are free, and nothing else."""
    used = Counter(pod["spec"]["nodeName"] for pod in wide.pods())
    names = []
    for node in dynawatt_sandbox.options.node_names():
        allocatable = int(dynawatt_kubectl.get("node", node)["status"]["allocatable"]["cpu"])
        cpu = str(allocatable - CPU * used[node] - 1)
        container = {"name": "other", "image": "busybox", "resources": {"requests": {"cpu": cpu}}}
        spec = {"nodeName": node, "containers": [container]}
        names.append(f"busy-{node}")
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": names[-1]}, "spec": spec}
        dynawatt_kubectl("apply", "--filename=-", stdin=json.dumps(pod))
    yield
    dynawatt_kubectl("delete", "pod", "--now", *names)


@pytest.mark.skip(reason="takes minutes; tests/controller/test_resuming.py plays it")
def test_a_shape_that_does_not_start_is_rolled_back(wide, no_free_cpu, until):
    with wide.watched() as watched:
        wide.manage(**RESHAPING)
        until(wide.siblings, within_s=WAIT_S)
        until(lambda: wide.status().get("reshape", {}).get("retryTime"), within_s=WAIT_S)
        until(lambda: [serving(sibling) for sibling in wide.siblings().values()] == [(0, 0)], within_s=WAIT_S)
        [sibling] = wide.siblings()
        message = wide.until("Progressing", "False", "ReshapeFailed")
        time.sleep(2 * TICKS_S)  # longer than a plan: it is not tried again at once
        assert serving(wide.siblings()[sibling]) == (0, 0)
    assert f"{sibling} did not become Ready in time" in message
    assert ("Warning", "ReshapeFailed") in wide.events()
    failed = wide.status()["reshape"]
    assert (failed["to"], failed["attempts"]) == (sibling, 1)
    waits = datetime.fromisoformat(failed["retryTime"]) - datetime.fromisoformat(failed["startedTime"])
    assert waits == timedelta(minutes=5)
    assert watched.fewest_serving >= 1
    assert wide.condition("Ready")[:2] == ("True", "Reconciled")


def test_an_operator_that_is_killed_at_any_step_goes_on(wide, dynawatt_sandbox, dynawatt_kubectl, until):
    def kill():
        send(dynawatt_sandbox.process("operator").identity, signal.SIGKILL)

    def restart(killed):
        assert killed.wait(WAIT_S)
        dynawatt_sandbox.stop_operator(signal.SIGKILL)
        dynawatt_sandbox.start_operator()

    before = wide.deployment()["spec"]
    with wide.watched() as watched:
        killed = watched.at(lambda asked, _: len(asked) > 1, kill)  # the new shape was just created
        wide.manage(**RESHAPING)
        restart(killed)
        restart(watched.at(lambda asked, _: asked[wide.name] < 2, kill))  # the old one has just begun to drain
        until(lambda: [serving(each) for each in wide.siblings().values()] == [(1, 1)], within_s=WAIT_S)
        until(lambda: serving(wide.deployment()) == (0, 0), within_s=WAIT_S)
        wide.until("Conflicting", "False", "NoConflict")
        assert wide.status()["adopted"]["replicas"] == 2

        killed = watched.at(lambda asked, _: asked[wide.name] > 0, kill)  # the first one is just given back
        wide.delete("llmservice", wait=False)
        restart(killed)
        until(lambda: wide.name not in dynawatt_kubectl("get", "llmservices", "--output=name"), within_s=WAIT_S)
        until(lambda: wide.settled(2), within_s=WAIT_S)
    assert wide.deployment()["spec"] == before
    assert wide.siblings() == {}
    assert watched.fewest_serving >= 1
