"""The names dynawatt goes by in the Kubernetes API: group, kinds, annotations, Lease."""

from typing import Final

GROUP: Final = "dynawatt.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"

LLMSERVICE_KIND: Final = "LLMService"
LLMSERVICE_PLURAL: Final = "llmservices"
GPUNODE_KIND: Final = "GPUNode"
GPUNODE_PLURAL: Final = "gpunodes"
MODELPROFILE_KIND: Final = "ModelProfile"

CLAIM_ANNOTATION: Final = f"{GROUP}/clock-claim"
"""On a vLLM pod: the operator's permission to govern this pod's GPUs (see ``claims``)."""

SHAPE_LABEL: Final = f"{GROUP}/shape"
"""On a sibling, the Deployment of a further shape: only these may the operator create, change and delete."""

SERVICE_ANNOTATION: Final = f"{GROUP}/service"
"""On a sibling: the LLMService that it belongs to, as ``namespace/name``."""

FINALIZER: Final = f"{GROUP}/give-back"
"""Keeps a deleted LLMService until everything it changed is given back."""

FIELD_MANAGER: Final = "dynawatt"
"""Who the API server records as having changed a field; another name on ours means a foreign write."""

DEFAULT_NAMESPACE: Final = "dynawatt-system"
LEASE_NAME: Final = "dynawatt-operator"
"""The operator's one Lease: every claim is valid only while it is renewed."""
