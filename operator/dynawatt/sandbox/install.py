"""What the sandbox puts into its fresh cluster: GPU nodes, custom resources, identities and rights."""

from pathlib import Path
from typing import Any, Final

import yaml

from dynawatt.api.crd import crd_documents
from dynawatt.api.group import API_VERSION, DEFAULT_NAMESPACE
from dynawatt.sandbox.api import ApiServer
from dynawatt.sandbox.options import GPU_CLASSES, SandboxOptions

OPERATOR_ACCOUNT: Final = "dynawatt-operator"
AGENT_ACCOUNT: Final = "dynawatt-agent"
"""Their ServiceAccounts, in dynawatt's namespace."""

_MANIFESTS: Final = Path(__file__).parent / "manifests"


def gpu_nodes(options: SandboxOptions) -> list[dict[str, Any]]:
    """The Node objects; KWOK fills in their status from the labels."""
    gpu = GPU_CLASSES[options.gpu]
    return [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/hostname": name,
                    "kubernetes.io/os": "linux",
                    "kubernetes.io/arch": "amd64",
                    "nvidia.com/gpu.present": "true",
                    "nvidia.com/gpu.product": gpu.product,
                    "nvidia.com/gpu.memory": str(gpu.memory_mib),
                    "nvidia.com/gpu.count": str(options.gpus_per_node),
                    "dynawatt.dev/sandbox-gpu": options.gpu,
                },
            },
        }
        for name in options.node_names()
    ]


def agent_pod(node: str) -> dict[str, Any]:
    """The Pod that a DaemonSet would run on a node, for the agent's token to be bound to.

    KWOK has it run; the agent itself is a process of the sandbox. It holds no GPU and serves nothing, so that the node
    simulator and Prometheus pass it over.
    """
    name = AGENT_ACCOUNT
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{node}",
            "namespace": DEFAULT_NAMESPACE,
            "labels": {"app.kubernetes.io/name": name},
        },
        "spec": {
            "nodeName": node,
            "serviceAccountName": name,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "agent", "image": "dynawatt", "args": ["agent", f"--node-name={node}"]}],
        },
    }


def access_documents() -> list[dict[str, Any]]:
    """Identities, roles and admission policies: the files that the Helm chart renders too."""
    return [*_documents("access.yaml"), *_documents("admission.yaml")]


def dynawatt_documents() -> list[dict[str, Any]]:
    """What an installation has besides its processes, in order: their namespace, what they may do, the definitions."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": DEFAULT_NAMESPACE}}
    return [namespace, *access_documents(), *crd_documents()]


def install(api: ApiServer, options: SandboxOptions) -> None:
    """Apply everything; a bare cluster has nothing of dynawatt. Raises OperationError."""
    ours = [] if options.bare else dynawatt_documents()
    for manifest in (*_documents("sandbox.yaml"), *ours, *gpu_nodes(options)):
        api.apply(manifest)


def nodes_are_ready(api: ApiServer, options: SandboxOptions) -> bool:
    """Whether every GPU node is Ready and offers its GPUs."""
    nodes = (api.get("/api/v1/nodes") or {}).get("items", [])
    return sum(_is_ready(node) for node in nodes) == options.nodes


def accepts_pods(api: ApiServer) -> bool:
    """Whether the controllers have made the default namespace usable."""
    return api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None


def serves_custom_resources(api: ApiServer) -> bool:
    """Whether dynawatt's resource types can be listed, which takes longer than creating their definitions."""
    plurals = [document["spec"]["names"]["plural"] for document in crd_documents()]
    return all(api.serves(f"/apis/{API_VERSION}/{plural}?limit=1") for plural in plurals)


def _documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((_MANIFESTS / name).read_text(encoding="utf-8")))


def _is_ready(node: dict[str, Any]) -> bool:
    status = node.get("status", {})
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    return conditions.get("Ready") == "True" and "nvidia.com/gpu" in status.get("allocatable", {})
