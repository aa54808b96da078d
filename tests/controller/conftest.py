"""Objects as the API server sends them, and a cluster in memory to put them into."""

import pytest

from dynawatt.controller.draft import StatusDraft
from dynawatt.controller.target import Workload
from dynawatt.planning.service import ServicePlan

from .memory import MemoryCluster, owned_by, replicas_owner


def make_deployment(
    replicas=2,
    *,
    writer="kubectl",
    args=("--shutdown-timeout=15",),
    grace_s=30,
    image="vllm-openai",
    gpus=1,
    **pod_spec,
):
    """One replica uses so many GPUs."""
    container = {
        "name": "server",
        "image": image,
        "args": ["--model=meta-llama/Llama-3.1-8B-Instruct", *args, *([f"-tp={gpus}"] if gpus > 1 else [])],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}},
    }
    return {
        "metadata": {
            "namespace": "default",
            "name": "llama",
            "uid": "uid-llama",
            "resourceVersion": "1",
            "generation": 1,
            "managedFields": [replicas_owner(writer)],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "llama"}},
            "template": {
                "metadata": {"labels": {"app": "llama"}},
                "spec": {"terminationGracePeriodSeconds": grace_s, "containers": [container], **pod_spec},
            },
        },
    }


def make_pod(
    name="a",
    *,
    created="2026-01-01T00:00:00Z",
    ready=None,
    node="n",
    phase="Running",
    deleted=False,
    app="llama",
    of=None,
    gpus=1,
):
    """Of the Deployment ``of``, which is called as ``app`` where nothing else is said."""
    metadata = {
        "namespace": "default",
        "name": name,
        "uid": name,
        "creationTimestamp": created,
        "labels": {"app": app},
        "ownerReferences": owned_by(of or app),
    }
    conditions = [] if ready is None else [{"type": "Ready", "status": "True", "lastTransitionTime": ready}]
    return {
        "metadata": metadata | ({"deletionTimestamp": created} if deleted else {}),
        "spec": {
            "nodeName": node,
            "containers": [{"name": "server", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}],
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
