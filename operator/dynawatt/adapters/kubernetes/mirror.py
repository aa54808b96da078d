"""The part of a cluster that the operator plans with, as a live copy in memory.

Reading it costs no request, however many services there are. It may lag behind
by some milliseconds; whoever changes an object names the version that was read,
so that the API server refuses what was decided on old data.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import KubernetesObject, resource_path
from dynawatt.adapters.kubernetes.watch import NotSyncedError, Watcher
from dynawatt.api.group import API_VERSION, CLAIM_ANNOTATION, GPUNODE_PLURAL, GROUP, SERVICE_ANNOTATION, SHAPE_LABEL

_GPU_RESOURCES: Final = ("nvidia.com/gpu",)
_KEPT_ANNOTATIONS: Final = (
    f"{GROUP}/",
    "controller.kubernetes.io/pod-deletion-cost",
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "karpenter.sh/do-not-disrupt",
)
"""Prefixes."""
_SLOWEST_S: Final = 120.0
"""Bookmarks come about once a minute: a copy that heard nothing for longer is out of date."""

_Index = TypeVar("_Index")


class _Indexed(Generic[_Index]):
    """A collection arranged for look-ups, anew only when something in it changed."""

    def __init__(self, watcher: Watcher, arrange: Callable[[Sequence[KubernetesObject]], _Index]) -> None:
        self.watcher = watcher
        self._arrange = arrange
        self._revision = -1
        self._index: _Index | None = None

    def get(self) -> _Index:
        """Raises NotSyncedError."""
        revision = self.watcher.revision
        if self._index is None or revision != self._revision:
            self._index = self._arrange(list(self.watcher.snapshot().values()))
            self._revision = revision
        return self._index


@dataclass(frozen=True, slots=True)
class _Deployments:
    by_name: Mapping[tuple[str, str], KubernetesObject]
    by_service: Mapping[tuple[str, str], list[KubernetesObject]]
    """Siblings alone."""


@dataclass(frozen=True, slots=True)
class _Pods:
    by_owner: Mapping[tuple[str, str], list[KubernetesObject]]
    by_namespace: Mapping[str, list[KubernetesObject]]
    everywhere: list[KubernetesObject]


class Mirror:
    """Deployments, GPU pods, nodes, autoscalers and disruption budgets of a cluster. Objects are shared: change none.

    Every method raises NotSyncedError before the first list.
    """

    def __init__(self, api: ApiClient) -> None:
        """Nothing is asked before ``start``."""

        def watcher(api_version: str, plural: str, **options: Any) -> Watcher:
            return Watcher(api, resource_path(api_version, plural), **options)

        self._deployments = _Indexed(watcher("apps/v1", "deployments", keep=_deployment), _deployments)
        self._pods = _Indexed(watcher("v1", "pods", keep=_pod), _pods)
        self._nodes = _Indexed(watcher("v1", "nodes", keep=_node), list)
        self._gpunodes = _Indexed(watcher(API_VERSION, GPUNODE_PLURAL), list)
        self._budgets = _Indexed(watcher("policy/v1", "poddisruptionbudgets"), _by_namespace)
        self._autoscalers = {
            "HorizontalPodAutoscaler": _Indexed(
                watcher("autoscaling/v2", "horizontalpodautoscalers", keep=_scaler), _by_namespace
            ),
            # Kinds of their own CRDs, which need not be there: looked for again every few minutes.
            "ScaledObject": _Indexed(
                watcher("keda.sh/v1alpha1", "scaledobjects", keep=_scaler, max_pause_s=300.0), _by_namespace
            ),
            "VerticalPodAutoscaler": _Indexed(
                watcher("autoscaling.k8s.io/v1", "verticalpodautoscalers", keep=_scaler, max_pause_s=300.0),
                _by_namespace,
            ),
        }
        hpas = self._autoscalers["HorizontalPodAutoscaler"]
        self._needed = (self._deployments, self._pods, self._nodes, self._budgets, hpas)
        self._all: set[_Indexed[Any]] = {*self._needed, self._gpunodes, *self._autoscalers.values()}

    def start(self) -> None:
        """Begin to list and watch; returns at once."""
        for each in self._all:
            each.watcher.start()

    def stop(self) -> None:
        """End all watches."""
        for each in self._all:
            each.watcher.stop(timeout_s=1.0)

    def problem(self) -> str | None:
        """Why nothing may be decided on this copy; None while it is up to date."""
        for each in self._needed:
            watcher = each.watcher
            if not watcher.synced.is_set() or watcher.age_s() > _SLOWEST_S:
                return f"{watcher.path}: {watcher.last_error or 'no answer'}"
        return None

    def deployment(self, namespace: str, name: str) -> KubernetesObject | None:
        """A Deployment; None when it does not exist."""
        return self._deployments.get().by_name.get((namespace, name))

    def siblings(self, namespace: str, service: str) -> list[KubernetesObject]:
        """The Deployments of further shapes of an LLMService, ``namespace/name``, by name."""
        return self._deployments.get().by_service.get((namespace, service), [])

    def pods_of(self, namespace: str, deployment: str) -> list[KubernetesObject]:
        """The GPU pods that a Deployment made, whatever their labels say to others."""
        return self._pods.get().by_owner.get((namespace, deployment), [])

    def pods(self, namespace: str | None = None) -> list[KubernetesObject]:
        """All GPU pods, of one namespace or of all; the same list as long as nothing about any of them changes."""
        index = self._pods.get()
        return index.everywhere if namespace is None else index.by_namespace.get(namespace, [])

    def nodes(self) -> list[KubernetesObject]:
        """All nodes with GPUs; the same list as long as nothing about any of them changes."""
        return self._nodes.get()

    def gpunodes(self) -> list[KubernetesObject]:
        """What the agents report; empty when it cannot be read."""
        try:
            return self._gpunodes.get()
        except NotSyncedError:
            return []

    def budgets(self, namespace: str) -> list[KubernetesObject]:
        """PodDisruptionBudgets."""
        return self._budgets.get().get(namespace, [])

    def autoscalers(self, namespace: str, deployment: str) -> list[tuple[str, str]]:
        """Kinds and names of the autoscalers that change a Deployment."""
        found = []
        for kind, index in self._autoscalers.items():
            try:
                scalers = index.get().get(namespace, [])
            except NotSyncedError:  # of a kind that is not installed there are none
                continue
            found += [(kind, one["metadata"]["name"]) for one in scalers if _scales(one, deployment)]
        return found


def gpu_count(pod_spec: Mapping[str, Any]) -> int:
    """GPUs that a pod holds, by its containers' limits."""
    return sum(_gpus(container) for container in pod_spec.get("containers") or ())


def _gpus(container: Mapping[str, Any]) -> int:
    resources = container.get("resources") or {}
    amounts = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return sum(int(amounts.get(name, 0)) for name in _GPU_RESOURCES)


def _owner(pod: KubernetesObject) -> tuple[str, str]:
    """Namespace and Deployment of a pod: its ReplicaSet is named after both the Deployment and the template's hash."""
    metadata = pod["metadata"]
    replica_set = next(
        (owner["name"] for owner in metadata.get("ownerReferences") or () if owner["kind"] == "ReplicaSet"), ""
    )
    template_hash = (metadata.get("labels") or {}).get("pod-template-hash", "")
    return metadata["namespace"], replica_set.removesuffix(f"-{template_hash}")


def _scales(scaler: KubernetesObject, deployment: str) -> bool:
    spec = scaler["spec"]
    if (spec.get("updatePolicy") or {}).get("updateMode") == "Off":  # a VerticalPodAutoscaler that only recommends
        return False
    target = spec.get("scaleTargetRef") or spec.get("targetRef") or {}
    return target.get("kind", "Deployment") == "Deployment" and target.get("name") == deployment


def _service_of(deployment: KubernetesObject) -> str | None:
    """The LLMService that made a Deployment for a further shape; None for any other Deployment."""
    labels, annotations = (deployment["metadata"].get(kind) or {} for kind in ("labels", "annotations"))
    return annotations.get(SERVICE_ANNOTATION) if SHAPE_LABEL in labels else None


def _pods(pods: Sequence[KubernetesObject]) -> _Pods:
    by_owner: dict[tuple[str, str], list[KubernetesObject]] = defaultdict(list)
    by_namespace: dict[str, list[KubernetesObject]] = defaultdict(list)
    everywhere = sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))
    for pod in everywhere:
        by_owner[_owner(pod)].append(pod)
        by_namespace[pod["metadata"]["namespace"]].append(pod)
    return _Pods(by_owner, by_namespace, everywhere)


def _deployments(found: Sequence[KubernetesObject]) -> _Deployments:
    by_name = {(one["metadata"]["namespace"], one["metadata"]["name"]): one for one in found}
    by_service: dict[tuple[str, str], list[KubernetesObject]] = defaultdict(list)
    for (namespace, _), one in sorted(by_name.items()):
        if (service := _service_of(one)) is not None:
            by_service[namespace, service].append(one)
    return _Deployments(by_name, by_service)


def _by_namespace(found: Sequence[KubernetesObject]) -> Mapping[str, list[KubernetesObject]]:
    index: dict[str, list[KubernetesObject]] = defaultdict(list)
    for one in found:
        index[one["metadata"]["namespace"]].append(one)
    return index


def _deployment(found: KubernetesObject) -> KubernetesObject:
    """All of it: a sibling is made from it, and its managedFields tell who scales it."""
    return found


def _pod(pod: KubernetesObject) -> KubernetesObject | None:
    """A pod that holds GPUs or a claim, less what nobody asks for; None for any other."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    annotations = {
        name: text for name, text in (metadata.get("annotations") or {}).items() if name.startswith(_KEPT_ANNOTATIONS)
    }
    if not gpu_count(spec) and CLAIM_ANNOTATION not in annotations:
        return None
    names = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "creationTimestamp")
    kept = {name: metadata[name] for name in (*names, "deletionTimestamp") if name in metadata}
    containers = [
        {"name": one["name"], "resources": one.get("resources") or {}} for one in spec.get("containers") or ()
    ]
    return {
        "metadata": kept | {"annotations": annotations},
        "spec": {"nodeName": spec.get("nodeName"), "containers": containers},
        "status": {
            "phase": status.get("phase"),
            "podIP": status.get("podIP"),
            "conditions": status.get("conditions") or [],
        },
    }


def _node(node: KubernetesObject) -> KubernetesObject | None:
    """A node with GPUs, less its images and addresses."""
    status = node.get("status") or {}
    allocatable = status.get("allocatable") or {}
    if not any(name in allocatable for name in _GPU_RESOURCES):
        return None
    metadata, spec = node["metadata"], node.get("spec") or {}
    return {
        "metadata": {name: metadata.get(name) for name in ("name", "uid", "resourceVersion", "labels")},
        "spec": {name: spec[name] for name in ("unschedulable", "taints") if name in spec},
        "status": {"allocatable": allocatable, "conditions": status.get("conditions") or []},
    }


def _scaler(scaler: KubernetesObject) -> KubernetesObject:
    metadata = scaler["metadata"]
    kept = {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion")}
    return {"metadata": kept, "spec": scaler["spec"]}
