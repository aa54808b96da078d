"""A cluster in memory, with the API server's optimistic locking, and objects as it sends them."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.target import Workload
from dynawatt.planning.service import ServicePlan


class MemoryCluster:
    def __init__(self) -> None:
        self.deployment_: dict[str, Any] | None = None
        self.pods_: list[dict[str, Any]] = []
        self.lease_: dict[str, Any] | None = None
        self.problem_: str | None = None
        self.siblings_: list[dict[str, Any]] = []
        self.nodes_ = [make_node("n")]
        self.budgets_: list[dict[str, Any]] = []
        self.autoscalers_: list[tuple[str, str]] = []
        self.writes: list[Any] = []
        self.switch_: dict[str, Any] | None = None
        self.outdated = False
        self.failing: Exception | None = None

    def _read(self, found: Any) -> Any:
        if self.failing is not None:
            raise self.failing
        return copy.deepcopy(found)

    def problem(self) -> str | None:
        return self.problem_

    def deployment(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._read(self.deployment_)

    def siblings(self, namespace: str, service: str) -> list[dict[str, Any]]:
        return self._read(self.siblings_)

    def pods_of(self, namespace: str, deployment: str) -> list[dict[str, Any]]:
        return self._read([pod for pod in self.pods_ if pod["metadata"]["labels"]["app"] == deployment])

    def pods(self, namespace: str | None = None) -> list[dict[str, Any]]:
        return self._read(self.pods_)

    def nodes(self) -> list[dict[str, Any]]:
        return self.nodes_

    def gpunodes(self) -> list[dict[str, Any]]:
        return []

    def budgets(self, namespace: str) -> list[dict[str, Any]]:
        return self.budgets_

    def autoscalers(self, namespace: str, deployment: str) -> list[tuple[str, str]]:
        return self.autoscalers_

    def scale(self, deployment: dict[str, Any], replicas: int) -> bool:
        if self.outdated:
            return False
        self.writes.append(replicas)
        self.deployment_["spec"]["replicas"] = replicas
        return True

    def annotate_pod(self, pod: dict[str, Any], annotations: Mapping[str, str | None]) -> bool:
        [found] = [other for other in self.pods_ if other["metadata"]["name"] == pod["metadata"]["name"]]
        found["metadata"].setdefault("annotations", {}).update(annotations)
        self.writes.append((pod["metadata"]["name"], dict(annotations)))
        return True

    def claims(self) -> list[str | None]:
        return [pod["metadata"].get("annotations", {}).get(CLAIM_ANNOTATION) for pod in self.pods_]

    def lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        return self._read(self.lease_)

    def config_map(self, namespace: str, name: str) -> dict[str, Any] | None:
        assert name == "dynawatt-switch"
        return self._read(self.switch_)

    def write_lease(self, lease: dict[str, Any]) -> dict[str, Any] | None:
        present = None if self.lease_ is None else self.lease_["metadata"]["resourceVersion"]
        if lease["metadata"].get("resourceVersion") != present:
            return None
        self.lease_ = copy.deepcopy(lease)
        self.lease_["metadata"]["resourceVersion"] = str(int(present or 0) + 1)
        return self.lease_


def make_node(name="n", gpus=8):
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    conditions = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}, "conditions": conditions},
    }


def make_deployment(replicas=2, *, writer="kubectl", args=("--shutdown-timeout=15",), grace_s=30, image="vllm-openai"):
    container = {
        "name": "server",
        "image": image,
        "args": ["--model=meta-llama/Llama-3.1-8B-Instruct", *args],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
    }
    pod_spec = {"terminationGracePeriodSeconds": grace_s, "containers": [container]}
    owned = {"manager": writer, "time": "2026-01-01T00:00:09Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    return {
        "metadata": {"namespace": "default", "name": "llama", "resourceVersion": "1", "managedFields": [owned]},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "llama"}},
            "template": {"spec": pod_spec},
        },
    }


def make_pod(
    name="a", *, created="2026-01-01T00:00:00Z", ready=None, node="n", phase="Running", deleted=False, app="llama"
):
    metadata = {"namespace": "default", "name": name, "uid": name, "creationTimestamp": created, "labels": {"app": app}}
    conditions = [] if ready is None else [{"type": "Ready", "status": "True", "lastTransitionTime": ready}]
    return {
        "metadata": metadata | ({"deletionTimestamp": created} if deleted else {}),
        "spec": {
            "nodeName": node,
            "containers": [{"name": "server", "resources": {"limits": {"nvidia.com/gpu": "1"}}}],
        },
        "status": {"phase": phase, "conditions": conditions},
    }


def make_plan(replicas=2, clock_mhz=1200, **changes):
    values = {
        "shape": "tp1",
        "replicas": replicas,
        "clock_mhz": clock_mhz,
        "clock_now_mhz": {"tp1": clock_mhz},
        "clock_message": "why this clock",
        "clock_floor_mhz": 800,
        "clock_ceiling_mhz": 1980,
        "schedule": (),
        "open_replicas": replicas,
        "power_w": 500.0,
        "energy_j": 3.6e6,
        "saving_to_keeping": 0.125,
        "saving_to_default_clock": 0.25,
        "feasible": True,
        "carried": 1.0,
        "reason": "Steady",
        "message": "why",
    }
    return ServicePlan(**values | changes)


@pytest.fixture
def cluster():
    return MemoryCluster()


@pytest.fixture
def deployment():
    return make_deployment


@pytest.fixture
def pod():
    return make_pod


@pytest.fixture
def workload():
    def make(*pods, **fields):
        return Workload(make_deployment(**fields), pods)

    return make


@pytest.fixture
def draft():
    def make(status=None, **fields):
        from datetime import UTC, datetime

        return StatusDraft.of(status or {}, generation=3, now=datetime(2026, 1, 1, tzinfo=UTC), **fields)

    return make
