"""What is looked at, read from the cluster before anything is judged."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import KubernetesObject, request_json
from dynawatt.adapters.kubernetes.cluster import parse_time
from dynawatt.api.group import API_VERSION, GPUNODE_PLURAL, LEASE_NAME, LLMSERVICE_PLURAL
from dynawatt.api.switch import SWITCH_NAME
from dynawatt.cli.doctor.rights import Reviewed, needed_rights, review
from dynawatt.cli.reader import ClusterReader
from dynawatt.sandbox.install import AGENT_ACCOUNT, OPERATOR_ACCOUNT, access_documents

LEASE_SLACK: Final = 2.0
"""A Lease that was not renewed for so many of its durations looks stale; the clocks may differ, though."""
_CRDS: Final = ("apiextensions.k8s.io/v1", "customresourcedefinitions")
_POLICIES: Final = "admissionregistration.k8s.io/v1"

Objects = Sequence[KubernetesObject]


@dataclass(frozen=True, slots=True)
class Facts:
    """Objects as the API sends them. ``unread`` names the fields that could not be read, and why; they are empty."""

    now: datetime
    namespace: str
    """Of operator and agents."""
    version: str = ""
    crds: Mapping[str, KubernetesObject] = field(default_factory=dict)
    policies: Mapping[str, KubernetesObject] = field(default_factory=dict)
    policy_bindings: Objects = ()
    rights: Mapping[str, Reviewed] = field(default_factory=dict)
    """Of ``operator`` and ``agents``."""
    lease: KubernetesObject | None = None
    lease_moves: bool = False
    """Whether a Lease that looks stale was renewed while it was watched."""
    switch: KubernetesObject | None = None
    nodes: Objects = ()
    """Those with GPUs."""
    gpu_nodes: Mapping[str, KubernetesObject] = field(default_factory=dict)
    services: Objects = ()
    deployments: Mapping[tuple[str, str], KubernetesObject] = field(default_factory=dict)
    """By namespace and name, in the namespaces of the services; so are all below by namespace."""
    pods: Mapping[str, Objects] = field(default_factory=dict)
    autoscalers: Mapping[str, Objects] = field(default_factory=dict)
    """HorizontalPodAutoscalers, ScaledObjects and VerticalPodAutoscalers, with their kind."""
    budgets: Mapping[str, Objects] = field(default_factory=dict)
    volume_claims: Mapping[str, Objects] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)


def server_version(api: ApiClient) -> str:
    """Such as v1.36.3. Raises API_ERRORS when the API server does not answer."""
    return str(request_json(api, "GET", "/version").get("gitVersion", "unknown"))


def gather(api: ApiClient, *, namespace: str, version: str, sleep: Callable[[float], None] = time.sleep) -> Facts:
    """Read everything that may be read."""
    reader = ClusterReader(api)
    services = reader.items("services", API_VERSION, LLMSERVICE_PLURAL)
    lease, moves = _lease(reader, namespace, sleep)
    documents = access_documents()
    rights = {
        who: review(api, account, needed_rights(documents, account, namespace=namespace), namespace=namespace)
        for who, account in (("operator", OPERATOR_ACCOUNT), ("agents", AGENT_ACCOUNT))
    }
    spaces = sorted({service["metadata"]["namespace"] for service in services})

    def by_space(what: str, api_version: str, plural: str, kind: str = "") -> dict[str, list[KubernetesObject]]:
        found: dict[str, list[KubernetesObject]] = defaultdict(list)
        for space in spaces:
            for item in reader.items(what, api_version, plural, namespace=space):
                found[space].append(item | {"kind": kind} if kind else item)
        return found

    scalers: dict[str, list[KubernetesObject]] = defaultdict(list)
    for kind, api_version in _SCALERS.items():
        for space, found in by_space("autoscalers", api_version, f"{kind.lower()}s", kind).items():
            scalers[space] += found
    return Facts(
        now=datetime.now(UTC),
        namespace=namespace,
        version=version,
        crds=_by_name(reader.items("crds", *_CRDS)),
        policies=_by_name(reader.items("policies", _POLICIES, "validatingadmissionpolicies")),
        policy_bindings=reader.items("policies", _POLICIES, "validatingadmissionpolicybindings"),
        rights=rights,
        lease=lease,
        lease_moves=moves,
        switch=reader.get("switch", "v1", "configmaps", SWITCH_NAME, namespace=namespace),
        nodes=[node for node in reader.items("nodes", "v1", "nodes") if has_gpus(node)],
        gpu_nodes=_by_name(reader.items("gpu_nodes", API_VERSION, GPUNODE_PLURAL)),
        services=services,
        deployments={
            (space, found["metadata"]["name"]): found
            for space, listed in by_space("deployments", "apps/v1", "deployments").items()
            for found in listed
        },
        pods=by_space("pods", "v1", "pods"),
        autoscalers=scalers,
        budgets=by_space("budgets", "policy/v1", "poddisruptionbudgets"),
        volume_claims=by_space("volume_claims", "v1", "persistentvolumeclaims"),
        unread=reader.unread,
    )


_SCALERS: Final = {
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "ScaledObject": "keda.sh/v1alpha1",
    "VerticalPodAutoscaler": "autoscaling.k8s.io/v1",
}
"""Kinds with the version they are read in; those that are not installed have no objects."""


def has_gpus(node: KubernetesObject) -> bool:
    """Whether a node says that it has NVIDIA GPUs, by its label or by what it offers."""
    labels = node["metadata"].get("labels") or {}
    return labels.get("nvidia.com/gpu.present") == "true" or gpus_of(node) > 0


def gpus_of(node: KubernetesObject) -> int:
    """GPUs that a node offers to pods."""
    status = node.get("status") or {}
    offered = (status.get("allocatable") or status.get("capacity") or {}).get("nvidia.com/gpu", 0)
    return int(offered)


def looks_stale(lease: KubernetesObject, now: datetime) -> bool:
    """Whether somebody holds the Lease but has not renewed it for long, by this machine's clock."""
    spec = lease.get("spec") or {}
    if not spec.get("holderIdentity") or not spec.get("renewTime"):
        return False
    since_s = (now - parse_time(spec["renewTime"])).total_seconds()
    return not -LEASE_SLACK * duration_s(lease) <= since_s <= LEASE_SLACK * duration_s(lease)


def duration_s(lease: KubernetesObject) -> float:
    """How long a renewal of the Lease holds."""
    return float((lease.get("spec") or {}).get("leaseDurationSeconds") or 30)


def _lease(
    reader: ClusterReader, namespace: str, sleep: Callable[[float], None]
) -> tuple[KubernetesObject | None, bool]:
    """The Lease; one that looks stale is watched for the time in which it would be renewed."""

    def read() -> KubernetesObject | None:
        return reader.get("lease", "coordination.k8s.io/v1", "leases", LEASE_NAME, namespace=namespace)

    lease = read()
    if lease is None or not looks_stale(lease, datetime.now(UTC)):
        return lease, False
    sleep(duration_s(lease) / 2)
    again = read()
    return again, again is not None and again["spec"].get("renewTime") != lease["spec"].get("renewTime")


def _by_name(objects: Objects) -> dict[str, KubernetesObject]:
    return {found["metadata"]["name"]: found for found in objects}
