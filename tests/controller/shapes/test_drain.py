import pytest

from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.controller.shapes.drain import drain_problem, pre_stop_s


@pytest.mark.parametrize(
    ("hook", "seconds"),
    [
        (None, 0),
        ({"sleep": {"seconds": 7}}, 7),
        ({"exec": {"command": ["sleep", "15"]}}, 15),
        ({"exec": {"command": ["/bin/sh", "-c", "kill -USR1 1; sleep 2.5s"]}}, 2.5),
        ({"exec": {"command": ["/drain.sh"]}}, 0),
        ({"httpGet": {"path": "/drain", "port": 8000}}, 0),
    ],
)
def test_pre_stop_sleep(hook, seconds):
    assert pre_stop_s({"lifecycle": {"preStop": hook}} if hook else {}) == seconds


@pytest.mark.parametrize(
    ("timeout_s", "sleep_s", "grace_s", "problem"),
    [
        (0.0, 0, 600, "--shutdown-timeout 60"),
        (30.0, 0, 30, "is 30, so the pod is killed before `--shutdown-timeout 30` end: set it to at least 45"),
        (30.0, 0, None, "is 30,"),
        (29.0, 0, None, None),
        (60.0, 30, 90, "the preStop sleep of 30 s and `--shutdown-timeout 60` end: set it to at least 105"),
        (60.0, 29, 90, None),
        (10.0, 0, 0, "is 0,"),
    ],
)
def test_drain_problem(timeout_s, sleep_s, grace_s, problem):
    pod_spec = {} if grace_s is None else {"terminationGracePeriodSeconds": grace_s}
    container = {"lifecycle": {"preStop": {"sleep": {"seconds": sleep_s}}}}
    found = drain_problem(pod_spec, container, VllmSettings("m", ("m",), shutdown_timeout_s=timeout_s))
    assert found is None if problem is None else problem in found
