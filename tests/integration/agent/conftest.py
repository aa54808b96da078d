"""A node of its own for the agent under test, a vLLM pod there, and who writes its claim, the Lease and the switch."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import MERGE_PATCH, api_client, request_json, resource_path
from dynawatt.api.claims import ClaimTable, ClockClaim
from dynawatt.api.group import CLAIM_ANNOTATION, DEFAULT_NAMESPACE, LEASE_NAME
from dynawatt.api.switch import SWITCH_NAME
from dynawatt.controller.shapes.leaving import is_ready
from dynawatt.sandbox.install import agent_pod
from dynawatt.sandbox.nodesim.driver_bridge import driver_state_path

from .clients import Clients
from .cluster import (
    GPUNODE,
    LEASES,
    MODEL,
    NAMESPACE,
    NODE,
    PODS,
    SWITCHES,
    TOP_ONLY,
    Operator,
    delete,
    eventually,
    succeeds,
)
from .hardware import MIN_MHZ, Hardware
from .process import AgentProcess


@pytest.fixture(scope="session")
def admin(sandbox: Any) -> ApiClient:
    """Of a cluster with the namespace, which takes seconds to go and so stays as long as the sandbox."""
    admin = api_client(sandbox.kubeconfig)
    request_json(admin, "POST", resource_path("v1", "namespaces"), body={"metadata": {"name": NAMESPACE}})
    account = resource_path("v1", "serviceaccounts", namespace=NAMESPACE, name="default")
    eventually(lambda: succeeds(admin, account))
    return admin


@pytest.fixture(scope="module")
def api(sandbox: Any, admin: ApiClient) -> Iterator[ApiClient]:
    """Of a cluster with the node."""
    template = request_json(admin, "GET", resource_path("v1", "nodes", name="gpu-node-0"))
    # Pods of other tests must not be scheduled here.
    node = {
        "metadata": {"name": NODE, "labels": {**template["metadata"]["labels"], "kubernetes.io/hostname": NODE}},
        "spec": {"unschedulable": True},
    }
    request_json(admin, "POST", resource_path("v1", "nodes"), body=node)
    yield admin
    for path in (GPUNODE, resource_path("v1", "nodes", name=NODE)):
        delete(admin, path)
    # The next file makes a node of the same name, and must not find these GPUs.
    eventually(lambda: not driver_state_path(sandbox.nodesim_directory, NODE).exists())


@pytest.fixture(scope="module")
def hardware(sandbox: Any, api: ApiClient) -> Iterator[Hardware]:
    hardware = Hardware(sandbox)
    yield hardware
    hardware.close()


@pytest.fixture
def pod(api: ApiClient, hardware: Hardware) -> Iterator[str]:
    """A vLLM pod with two GPUs of the node; its URL path."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": [f"--model={MODEL}", "--tensor-parallel-size=2"],
        "resources": {"limits": {"nvidia.com/gpu": "2"}},
    }
    body = {"metadata": {"name": "llama"}, "spec": {"nodeName": NODE, "containers": [container]}}
    request_json(api, "POST", PODS, body=body)
    eventually(lambda: hardware.clocks_mhz(held=True))
    yield f"{PODS}/llama"
    delete(api, f"{PODS}/llama")
    eventually(lambda: not hardware.clocks_mhz(held=True))


@pytest.fixture
def claim(api: ApiClient, pod: str) -> Callable[..., None]:
    """Sets the highest clock that the pod's claim allows; None takes the claim away."""

    def annotate(max_mhz: int | None, table: ClaimTable = TOP_ONLY) -> None:
        text = None
        if max_mhz is not None:
            text = ClockClaim(
                floor_megahertz=MIN_MHZ,
                ceiling_megahertz=max_mhz,
                lease=f"{DEFAULT_NAMESPACE}/{LEASE_NAME}",
                service=f"{NAMESPACE}/llama",
                metrics_port=8000,
                table=table,
            ).to_annotation()
        patch = {"metadata": {"annotations": {CLAIM_ANNOTATION: text}}}
        request_json(api, "PATCH", pod, body=patch, content_type=MERGE_PATCH)

    return annotate


@pytest.fixture
def operator(api: ApiClient) -> Iterator[Operator]:
    operator = Operator(api)
    yield operator
    operator.stop()
    delete(api, f"{LEASES}/{LEASE_NAME}")


@pytest.fixture
def switch(api: ApiClient) -> Iterator[Callable[[str], None]]:
    """Sets the cluster-wide switch."""
    path = f"{SWITCHES}/{SWITCH_NAME}"

    def set_to(enabled: str) -> None:
        delete(api, path)
        request_json(api, "POST", SWITCHES, body={"metadata": {"name": SWITCH_NAME}, "data": {"enabled": enabled}})

    yield set_to
    delete(api, path)


@pytest.fixture(scope="module")
def kubeconfig(sandbox: Any, api: ApiClient) -> Iterator[Path]:
    """With the rights of this node's agent, by a token that is bound to a Pod there."""
    yield sandbox.agent_kubeconfig(NODE)
    name = agent_pod(NODE)["metadata"]["name"]
    delete(api, resource_path("v1", "pods", namespace=DEFAULT_NAMESPACE, name=name))


@pytest.fixture
def start_agent(sandbox: Any, hardware: Hardware, kubeconfig: Path, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    started: list[AgentProcess] = []

    def start() -> AgentProcess:
        started.append(AgentProcess(sandbox, kubeconfig, tmp_path))
        eventually(started[-1].healthy)
        return started[-1]

    yield start
    for agent in started:
        if agent.process.poll() is None:
            agent.end(signal.SIGTERM)


@pytest.fixture
def clients(api: ApiClient, pod: str) -> Callable[..., Clients]:
    eventually(lambda: is_ready(request_json(api, "GET", pod)))
    address = request_json(api, "GET", pod)["status"]["podIP"]
    return lambda *, requests=8, tokens=300: Clients(address, requests=requests, tokens=tokens)
