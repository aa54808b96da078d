"""Objects as the API server sends them, small and in order; tests break what they are about."""

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from dynawatt.api.claims import ClockClaim
from dynawatt.api.group import CLAIM_ANNOTATION

NOW: Final = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
PRODUCT: Final = "NVIDIA-H100-80GB-HBM3"
MODEL: Final = "meta-llama/Llama-3.1-8B-Instruct"


def before(**ago: float) -> str:
    return (NOW - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """As a merge patch: None removes."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def condition(type_: str, status: str, reason: str, message: str = "as it is", **ago: float) -> dict[str, Any]:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": before(**(ago or {"hours": 2})),
        "observedGeneration": 1,
    }


GOOD: Final = [
    condition("Ready", "True", "Reconciled", "acting on the last decision"),
    condition("MetricsAvailable", "True", "MetricsFresh"),
    condition("ProfileAvailable", "True", "ProfileFound"),
    condition("SLOAttainable", "True", "PlanFound"),
    condition("SLOMet", "True", "WithinSLO"),
    condition("Progressing", "False", "Steady", "2 replicas are Ready"),
    condition("ClocksGoverned", "True", "ClaimsApplied"),
    condition("DrainConfigured", "True", "DrainSetUp"),
    condition("Conflicting", "False", "NoConflict"),
]

DECISION: Final[dict[str, Any]] = {
    "time": before(minutes=3),
    "reason": "ShrinkToLoad",
    "message": "up to 6.3 req/s to be ready for: 2 x tp1 at 1215 MHz need the fewest joules over 2 h",
    "chosen": {"replicas": 2, "tensorParallelSize": 1, "clockMegahertz": 1215, "predictedWatts": 512},
    "predictedSaving": {"toKeepingPercent": 31, "toDefaultClockPercent": 24},
    "runnersUp": [
        {
            "replicas": 3,
            "tensorParallelSize": 1,
            "clockMegahertz": 1080,
            "predictedWatts": 598,
            "whyNot": "86 W more over 2 h",
        },
        {
            "replicas": 1,
            "tensorParallelSize": 1,
            "clockMegahertz": 1980,
            "predictedWatts": 401,
            "whyNot": "carries 5.1 of 6.3 req/s within the SLO",
        },
        {
            "replicas": 2,
            "tensorParallelSize": 1,
            "clockMegahertz": 1980,
            "predictedWatts": 674,
            "whyNot": "162 W more now",
        },
    ],
}


def with_condition(*changed: dict[str, Any]) -> list[dict[str, Any]]:
    types = {each["type"] for each in changed}
    return [each for each in GOOD if each["type"] not in types] + list(changed)


def service(name: str = "llama", *, spec: Any = None, status: Any = None, metadata: Any = None) -> dict[str, Any]:
    found = {
        "apiVersion": "dynawatt.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"namespace": "prod", "name": name, "uid": name, "creationTimestamp": before(days=3)},
        "spec": {
            "deploymentRef": {"name": name},
            "mode": "Auto",
            "knobs": ["Clock", "Replicas"],
            "slo": {
                "percentile": 99,
                "interTokenMilliseconds": 100,
                "timeToFirstToken": [{"maxInputTokens": 1024, "milliseconds": 400}, {"milliseconds": 2000}],
            },
            "replicas": {"min": 1, "max": 8},
        },
        "status": {
            "observedGeneration": 1,
            "conditions": GOOD,
            "shapes": [
                {
                    "deployment": name,
                    "gpuProduct": PRODUCT,
                    "tensorParallelSize": 1,
                    "desiredReplicas": 2,
                    "readyReplicas": 2,
                    "clock": {"minMegahertz": 800, "maxMegahertz": 1980},
                }
            ],
            "lastDecision": DECISION,
            "lastChanges": [
                {
                    "time": before(minutes=3),
                    "knob": "Replicas",
                    "from": "3",
                    "to": "2",
                    "reason": DECISION["message"],
                }
            ],
        },
    }
    return merged(found, {"spec": spec or {}, "status": status or {}, "metadata": metadata or {}})


def deployment(name: str = "llama", **spec: Any) -> dict[str, Any]:
    container = {
        "name": "server",
        "image": "vllm/vllm-openai:v0.18.0",
        "args": [f"--model={MODEL}", "--shutdown-timeout=60"],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
        "lifecycle": {"preStop": {"sleep": {"seconds": 15}}},
        "startupProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 10, "failureThreshold": 60},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "namespace": "prod",
            "name": name,
            "managedFields": [
                {
                    "manager": "kubectl-client-side-apply",
                    "operation": "Update",
                    "time": before(days=3),
                    "fieldsV1": {"f:spec": {"f:replicas": {}}},
                }
            ],
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 90, "containers": [container]},
            },
        }
        | spec,
    }


def claim(service_: str = "prod/llama", *, floor: int = 800, ceiling: int = 1980) -> str:
    table = {"attainment": 0.99, "drain": 0.5, "kv": 400, "prompt": 900, "tbt": 0.1, "ttft": False}
    return ClockClaim.model_validate(
        {
            "floorMegahertz": floor,
            "ceilingMegahertz": ceiling,
            "lease": "dynawatt-system/dynawatt-operator",
            "service": service_,
            "metricsPort": 8000,
            "table": table | {"rows": [[800, 1.0, 8000, 20], [1980, 8.0, 20000, 140]]},
        }
    ).to_annotation()


def pod(name: str = "llama-a", *, node: str | None = "gpu-1", clock: str | None = None, app: str = "llama") -> Any:
    return {
        "metadata": {
            "namespace": "prod",
            "name": name,
            "uid": name,
            "labels": {"app": app},
            "creationTimestamp": before(hours=1),
            "annotations": {CLAIM_ANNOTATION: claim() if clock is None else clock} if clock != "" else {},
        },
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": before(minutes=58)}],
        },
    }


def gpu_node(name: str = "gpu-1", *gpus: dict[str, Any], conditions: Any = None) -> dict[str, Any]:
    return {
        "apiVersion": "dynawatt.dev/v1alpha1",
        "kind": "GPUNode",
        "metadata": {"name": name},
        "status": {
            "gpus": list(gpus),
            "conditions": conditions
            or [
                condition("ClocksGoverned", "True", "ClaimsApplied"),
                condition("GPUsHealthy", "True", "AllHealthy"),
            ],
        },
    }


def gpu(uuid: str = "GPU-1", *, holder: str | None = "prod/llama-a", **changes: Any) -> dict[str, Any]:
    found = {
        "uuid": uuid,
        "product": "NVIDIA H100 80GB HBM3",
        "clockControl": "Supported",
        "clockMethod": "LockedClocks",
        "minClockMegahertz": 345,
        "maxClockMegahertz": 1980,
        "allocatedTo": holder,
        "claim": {"minMegahertz": 800, "maxMegahertz": 1980},
        "health": "Healthy",
    }
    return merged(found, changes)


def lease(*, holder: str = "dynawatt-operator-0", **ago: float) -> dict[str, Any]:
    renewed = (NOW - timedelta(**(ago or {"seconds": 4}))).isoformat(timespec="microseconds").replace("+00:00", "Z")
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 30, "renewTime": renewed}
    return {"metadata": {"namespace": "dynawatt-system", "name": "dynawatt-operator"}, "spec": spec}


def switch(enabled: str) -> dict[str, Any]:
    return {"metadata": {"name": "dynawatt-switch"}, "data": {"enabled": enabled}}


def as_text(found: Any) -> str:
    return json.dumps(found)
