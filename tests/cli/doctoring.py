"""A cluster in order, as the doctor's facts; tests break what they are about."""

from typing import Any

from dynawatt.api.crd import crd_documents
from dynawatt.cli.doctor.facts import Facts
from dynawatt.cli.doctor.rights import Reviewed
from dynawatt.sandbox.install import access_documents

from .objects import NOW, PRODUCT, deployment, gpu, gpu_node, lease, pod, service


def node(name: str = "gpu-1", *, gpus: int = 8, product: str = PRODUCT) -> dict[str, Any]:
    labels = {"nvidia.com/gpu.present": "true", "nvidia.com/gpu.product": product}
    return {"metadata": {"name": name, "labels": labels}, "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}}}


def crds() -> dict[str, dict[str, Any]]:
    """As an API server gives them back: with conditions, and with what it adds."""
    served = {"conditions": [{"type": "Established", "status": "True"}]}
    return {
        document["metadata"]["name"]: document
        | {"spec": document["spec"] | {"conversion": {"strategy": "None"}}, "status": served}
        for document in crd_documents()
    }


def documents(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in access_documents() if each["kind"] == kind}


def facts(**changes: Any) -> Facts:
    whole: dict[str, Any] = {
        "now": NOW,
        "namespace": "dynawatt-system",
        "version": "v1.36.3",
        "crds": crds(),
        "policies": documents("ValidatingAdmissionPolicy"),
        "policy_bindings": list(documents("ValidatingAdmissionPolicyBinding").values()),
        "rights": {
            "operator": Reviewed("dynawatt-system/dynawatt-operator", 40, []),
            "agents": Reviewed("dynawatt-system/dynawatt-agent", 12, []),
        },
        "lease": lease(),
        "nodes": [node()],
        "gpu_nodes": {"gpu-1": gpu_node("gpu-1", gpu())},
        "services": [service()],
        "deployments": {("prod", "llama"): deployment()},
        "pods": {"prod": [pod(), pod("llama-b")]},
    }
    return Facts(**(whole | changes))


def only(checks: Any, name: str) -> Any:
    """The one check of this name."""
    [found] = [check for check in checks if check.name == name]
    return found
