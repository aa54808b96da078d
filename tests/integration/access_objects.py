"""What is asked of the API server when identities try what they may do: paths, and objects to write."""

from typing import Any, Final

from dynawatt.adapters.kubernetes.client import resource_path
from dynawatt.api.group import (
    API_VERSION,
    CLAIM_ANNOTATION,
    DEFAULT_NAMESPACE,
    GPUNODE_KIND,
    GPUNODE_PLURAL,
    LLMSERVICE_KIND,
    LLMSERVICE_PLURAL,
    SHAPE_LABEL,
)
from dynawatt.sandbox.install import AGENT_ACCOUNT

NAMESPACE: Final = "access-test"

GPUNODES = resource_path(API_VERSION, GPUNODE_PLURAL)
SERVICES = resource_path(API_VERSION, LLMSERVICE_PLURAL, namespace=NAMESPACE)
PODS = resource_path("v1", "pods", namespace=NAMESPACE)
DEPLOYMENTS = resource_path("apps/v1", "deployments", namespace=NAMESPACE)
CLAIMS = resource_path("v1", "persistentvolumeclaims", namespace=NAMESPACE)
SECRETS = resource_path("v1", "secrets", namespace=NAMESPACE)
NODES = resource_path("v1", "nodes")
LEASES = resource_path("coordination.k8s.io/v1", "leases", namespace=DEFAULT_NAMESPACE)
SWITCHES = resource_path("v1", "configmaps", namespace=DEFAULT_NAMESPACE)
TOKENS = resource_path("v1", "serviceaccounts", namespace=DEFAULT_NAMESPACE, name=AGENT_ACCOUNT) + "/token"
POLICIES = resource_path("admissionregistration.k8s.io/v1", "validatingadmissionpolicies")
ROLES = resource_path("rbac.authorization.k8s.io/v1", "clusterrolebindings")

OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
CLAIMED = {"status": {"summary": {"product": "H100", "gpuCount": 8, "allocated": 0, "claimed": 0}}}
CONTAINER = {"name": "vllm", "image": "vllm/vllm-openai:v0.32.0"}
POD: dict[str, Any] = {
    "metadata": {
        "name": "vllm",
        "labels": {"app": "vllm"},
        "annotations": {CLAIM_ANNOTATION: "{}", "example.com/owner": "team"},
        "finalizers": ["example.com/keep"],
    },
    "spec": {"schedulerName": "nobody", "containers": [CONTAINER]},
}
VOLUME_CLAIM: dict[str, Any] = {
    "metadata": {"name": "weights"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
}
SERVICE: dict[str, Any] = {
    "apiVersion": API_VERSION,
    "kind": LLMSERVICE_KIND,
    "metadata": {"name": "vllm"},
    "spec": {
        "deploymentRef": {"name": "vllm"},
        "slo": {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 2000}]},
    },
}


def deployment(name: str, shape: str | None = None) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [CONTAINER]}}
    return {
        "metadata": {"name": name, "labels": {"app": name} | ({} if shape is None else {SHAPE_LABEL: shape})},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }


def gpunode(name: str, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": GPUNODE_KIND, "metadata": {"name": name, **metadata}}


def lease(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"holderIdentity": "test"}}


def metadata(**fields: Any) -> dict[str, Any]:
    return {"metadata": fields}


def annotations(**fields: str | None) -> dict[str, Any]:
    return metadata(annotations=fields)


def scale(replicas: int) -> dict[str, Any]:
    body = {"metadata": {"name": "vllm"}, "spec": {"replicas": replicas}}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", **body}
