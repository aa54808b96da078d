import json
import signal
import time
from datetime import UTC, datetime

import pytest

pytestmark = pytest.mark.integration

WAIT_S = 150.0
TICKS_S = 4.0  # a few looks of the operator
RESHAPING = {"knobs": ["Clock", "Shape"], "tensorParallelSizes": [1, 2]}


@pytest.fixture(scope="module")
def service(managed):
    """Two replicas on two GPUs each, far more than its load needs; no request fails whatever the tests do."""
    service = managed("reshape")
    service.deploy(replicas=2, tensor_parallel=2)
    load = service.load()
    yield service
    report = load.stop()
    assert report.succeeded > 100
    assert report.failed == 0


@pytest.fixture
def wide(service, until):
    """As it was deployed, and managed by nobody."""
    service.delete("llmservice")
    until(lambda: service.settled(2), within_s=WAIT_S)
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
    return len(siblings) == 1 and serving(siblings[0]) == (1, 1) and serving(service.deployment()) == (0, 0)


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
        assert status["summary"]["tensorParallelSize"] == "2,1"
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
