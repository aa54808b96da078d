import time

import pytest

pytestmark = pytest.mark.integration

WAIT_S = 150.0


@pytest.fixture
def service(managed):
    """Two replicas on two GPUs each, far more than its load needs."""
    service = managed("reshape")
    service.deploy(replicas=2, tensor_parallel=2)
    return service


def serving(deployment):
    return deployment["spec"]["replicas"], deployment["status"].get("readyReplicas", 0)


def reshaped(service):
    """Whether the sibling of one GPU serves alone."""
    siblings = list(service.siblings().values())
    return len(siblings) == 1 and serving(siblings[0]) == (1, 1) and serving(service.deployment()) == (0, 0)


def test_tensor_parallelism_changes_there_and_back_without_a_failed_request(service, until, all_clocks_default):
    before = service.deployment()["spec"]
    load = service.load()
    service.manage(knobs=["Clock", "Shape"], tensorParallelSizes=[1, 2])
    until(lambda: reshaped(service), within_s=WAIT_S)
    [sibling] = service.siblings().values()
    container = sibling["spec"]["template"]["spec"]["containers"][0]
    assert container["args"][-1] == "--tensor-parallel-size=1"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "ownerReferences" not in sibling["metadata"]
    service.until("Ready", "True", "Reconciled")
    until(lambda: service.status().get("reshape") is None, within_s=WAIT_S)
    until(lambda: len(service.claims()) == 1 and service.claimed(), within_s=WAIT_S)
    status = service.status()
    assert status["adopted"]["replicas"] == 2
    assert status["summary"]["tensorParallelSize"] == "2,1"
    assert status["lastDecision"]["chosen"]["tensorParallelSize"] == 1
    assert "Shape" in {change["knob"] for change in status["lastChanges"]}

    service.delete("llmservice")
    until(lambda: service.settled(2), within_s=WAIT_S)
    assert service.deployment()["spec"] == before
    assert service.siblings() == {}
    until(all_clocks_default, within_s=WAIT_S)
    time.sleep(2.0)
    report = load.stop()
    assert report.succeeded > 50
    assert report.failed == 0
