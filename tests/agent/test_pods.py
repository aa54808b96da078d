from typing import Any

import pytest

from dynawatt.agent.pods import PodFacts, pod_facts
from dynawatt.ports import PodKey

KEY = PodKey("prod", "a")


def pod(uid: str, *command: str, status: dict[str, Any] | None = None, **container: Any) -> dict[str, Any]:
    containers = [{"name": "main", "command": list(command), **container}]
    return {
        "metadata": {"namespace": "prod", "name": "a", "uid": uid},
        "spec": {"containers": containers},
        "status": status,
    }


def facts(found: dict[str, Any]) -> PodFacts:
    return pod_facts([found])[KEY]


def test_a_vllm_pod() -> None:
    status = {"phase": "Running", "podIP": "10.0.0.7"}
    assert facts(pod("u1", "vllm", "serve", "m", "--port=8123", status=status)) == ("u1", "Running", "10.0.0.7", 8123)
    assert facts(pod("u2", "vllm", "serve", "m")).port == 8000


@pytest.mark.parametrize("command", [("python", "train.py"), ("vllm", "serve", "m", "--port=none"), ()])
def test_a_pod_without_a_readable_vllm_has_no_port(command: tuple[str, ...]) -> None:
    assert facts(pod(f"uid of {command}", *command)).port is None


@pytest.mark.parametrize("status", [None, {}, {"phase": "Pending"}])
def test_a_pod_that_has_just_been_made(status: dict[str, Any] | None) -> None:
    found = facts(pod("u3", "vllm", "serve", "m", status=status))
    assert (found.address, found.over) == (None, False)


@pytest.mark.parametrize("spec", [None, {}, {"containers": None}])
def test_a_pod_without_containers(spec: dict[str, Any] | None) -> None:
    assert facts(pod(f"uid of {spec}") | {"spec": spec}).port is None


@pytest.mark.parametrize(
    ("phase", "over"), [("Succeeded", True), ("Failed", True), ("Running", False), ("Unknown", False), ("", False)]
)
def test_a_pod_is_over_when_its_containers_have_ended_for_good(phase: str, over: bool) -> None:
    assert facts(pod("u4", status={"phase": phase})).over is over


def test_a_successor_of_the_same_name_is_another_pod() -> None:
    assert facts(pod("u5", "vllm", "serve", "m", "--port=1")).port == 1
    assert facts(pod("u6", "vllm", "serve", "m", "--port=2")).port == 2
