import threading
from typing import Any

import httpx
import pytest

from dynawatt.cli import agent as command
from dynawatt.cli.main import build_app
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.sandbox.simulated_gpus import SimulatedNodeClient

GPU = {"uuid": "GPU-0", "product": "H100", "supportedClocksMhz": [345, 360]}


def simulator(*answers: httpx.Response) -> SimulatedNodeClient:
    replies = iter(answers)
    return SimulatedNodeClient("http://sim", "n0", transport=httpx.MockTransport(lambda request: next(replies)))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--node-name=Not_A_Node", "--node-name 'Not_A_Node': must be a DNS-1123 name"),
        ("--namespace=a/b", "--namespace 'a/b': must be a DNS-1123 label"),
        ("--simulated-gpus=localhost:1", "--simulated-gpus 'localhost:1': must be a URL"),
        ("--kubeconfig=/does/not/exist", "--kubeconfig /does/not/exist: No such file or directory; give"),
    ],
)
def test_bad_options_name_field_value_and_remedy(option: str, message: str) -> None:
    arguments = ["agent", "--node-name=n0", "--simulated-gpus=http://sim", "--kubeconfig=x", option]
    with pytest.raises(InvalidInputError) as caught:
        build_app(arguments)(arguments, standalone_mode=False)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "first",
    [httpx.Response(404, json={"error": "no node 'n0'"}), httpx.Response(200, json={"gpus": []})],
    ids=["unknown node", "no GPUs yet"],
)
def test_waits_until_the_simulator_has_the_node(first: httpx.Response) -> None:
    found = command._wait_for_gpus(simulator(first, httpx.Response(200, json={"gpus": [GPU]})), "n0", threading.Event())
    assert [device.uuid for device in found] == ["GPU-0"]


def test_gives_up_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_GPUS_WITHIN_S", 0.0)
    with pytest.raises(OperationError, match="no GPU of node 'n0' found within 0 s: no node 'n0'; check --simulated"):
        command._wait_for_gpus(simulator(httpx.Response(404, json={"error": "no node 'n0'"})), "n0", threading.Event())


def test_told_to_stop_while_waiting() -> None:
    stop = threading.Event()
    stop.set()
    nothing: Any = command._wait_for_gpus(simulator(), "n0", stop)
    assert nothing == []
