"""The custom resource definitions, built from the pydantic types.

``crds/*.yaml`` is the rendered copy that users install; ``dynawatt crds
--check`` keeps it equal to this.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from dynawatt.api.gpunode import GPUNodeStatus
from dynawatt.api.group import (
    GPUNODE_KIND,
    GPUNODE_PLURAL,
    GROUP,
    LLMSERVICE_KIND,
    LLMSERVICE_PLURAL,
    VERSION,
)
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.api.llmservice_status import LLMServiceStatus
from dynawatt.api.schema import structural_schema

Document = dict[str, Any]

_HEADER: Final = "# Generated from operator/dynawatt/api by `dynawatt crds --write crds`: change the types there.\n"


def crd_documents() -> list[Document]:
    """All CustomResourceDefinitions as dictionaries, ready to be applied."""
    return [_llmservice(), _gpunode()]


def render_yaml(documents: Sequence[Mapping[str, Any]]) -> str:
    """Documents as one YAML text, headed by where they come from."""
    return _HEADER + "---\n".join(
        yaml.safe_dump(dict(document), sort_keys=False, width=120, allow_unicode=True) for document in documents
    )


def crd_files() -> dict[str, str]:
    """Contents of ``crds/`` by file name, one file per kind."""
    return {f"{document['spec']['names']['plural']}.yaml": render_yaml([document]) for document in crd_documents()}


def _llmservice() -> Document:
    return _definition(
        kind=LLMSERVICE_KIND,
        plural=LLMSERVICE_PLURAL,
        short_names=["llmsvc"],
        scope="Namespaced",
        description="An LLMService has dynawatt run a vLLM Deployment for the fewest joules that still meet its "
        "latency objectives: it chooses the number of replicas and the clock of their GPUs.",
        properties={
            "spec": structural_schema(LLMServiceSpec, with_defaults=True),
            "status": structural_schema(LLMServiceStatus, with_defaults=False),
        },
        required=["spec"],
        columns=[
            _column("Mode", ".spec.mode", "How far dynawatt goes"),
            _column("Replicas", ".status.summary.replicas", "Ready and desired replicas"),
            _column("TP", ".status.summary.tensorParallelSize", "Tensor-parallel size: GPUs per replica"),
            _column("Clock(MHz)", ".status.summary.clockMegahertz", "SM clocks that the GPUs are claimed for"),
            _column("SLO", _condition("SLOMet", "status"), "Whether measured latencies meet the SLO"),
            _column("Ready", _condition("Ready", "status"), "Whether dynawatt does what it was asked to"),
            _column("Target", ".spec.deploymentRef.name", "The managed Deployment", wide=True),
            _column("Reason", _condition("Ready", "reason"), "Why it is Ready or not", wide=True),
            _column(
                "Watts",
                ".status.lastDecision.chosen.predictedWatts",
                "Predicted power of the service's GPUs",
                type_="integer",
                wide=True,
            ),
            _AGE,
        ],
    )


def _gpunode() -> Document:
    return _definition(
        kind=GPUNODE_KIND,
        plural=GPUNODE_PLURAL,
        short_names=[],
        scope="Cluster",
        description="A GPUNode shows the GPUs of the node of the same name: which pod holds each, which clocks "
        "it is kept within, and whether it is healthy. Written by dynawatt's agent on that node; nothing is to be set.",
        properties={"status": structural_schema(GPUNodeStatus, with_defaults=False)},
        required=[],
        columns=[
            _column("Product", ".status.summary.product", "Product of the GPUs"),
            _column("GPUs", ".status.summary.gpuCount", "GPUs on the node", type_="integer"),
            _column("Allocated", ".status.summary.allocated", "GPUs that a pod holds", type_="integer"),
            _column("Claimed", ".status.summary.claimed", "GPUs that are kept within a claim", type_="integer"),
            _column("Governed", _condition("ClocksGoverned", "status"), "Whether GPU clocks follow the claims"),
            _column("Healthy", _condition("GPUsHealthy", "status"), "Whether no GPU has failed"),
            _column(
                "Energy-only",
                ".status.summary.energyOnly",
                "GPUs whose clock is left alone because of how they are used",
                type_="integer",
                wide=True,
            ),
            _column("Reason", _condition("ClocksGoverned", "reason"), "Why clocks are governed or not", wide=True),
            _column("Health", _condition("GPUsHealthy", "reason"), "Why the GPUs are healthy or not", wide=True),
            _AGE,
        ],
    )


def _definition(
    *,
    kind: str,
    plural: str,
    short_names: list[str],
    scope: str,
    description: str,
    properties: Document,
    required: list[str],
    columns: list[Document],
) -> Document:
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        **({"shortNames": short_names} if short_names else {}),
        "categories": ["dynawatt"],
    }
    schema = {
        "description": description,
        "type": "object",
        **({"required": required} if required else {}),
        "properties": properties,
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": scope, "names": names, "versions": [version]},
    }


def _column(name: str, path: str, description: str, *, type_: str = "string", wide: bool = False) -> Document:
    return {
        "name": name,
        "type": type_,
        "description": description,
        "jsonPath": path,
        **({"priority": 1} if wide else {}),
    }


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


_AGE: Final = _column("Age", ".metadata.creationTimestamp", "Time since creation", type_="date")
