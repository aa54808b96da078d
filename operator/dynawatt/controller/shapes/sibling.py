"""The Deployment of a further shape, made from the user's own."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.vllm_args import with_flags
from dynawatt.api.group import GROUP, SERVICE_ANNOTATION, SHAPE_LABEL
from dynawatt.controller.shapes.drain import grace_s
from dynawatt.controller.shapes.gpus import GpuRequest, with_gpu_count, with_gpu_product
from dynawatt.controller.shapes.placement import packed
from dynawatt.controller.shapes.probes import needed_s, startup_budget_s, with_startup_budget
from dynawatt.controller.shapes.resources import Growth, scaled_resources, with_shared_memory
from dynawatt.controller.shapes.shape import SHAPE_ANNOTATION, Shape, sibling_name
from dynawatt.controller.shapes.template import Template, read_template
from dynawatt.errors import InvalidInputError

TEMPLATE_ANNOTATION: Final = f"{GROUP}/template"
"""On a sibling: the name of the Deployment that it was made from."""
TEMPLATE_DIGEST_ANNOTATION: Final = f"{GROUP}/template-digest"
"""On a sibling: of the pod template that it was made from."""

_DEFAULT_DEADLINE_S: Final = 600
_DEADLINE_MARGIN_S: Final = 60
_TRACKED: Final = (
    "argoproj.io",
    "fluxcd.io",
    "helm.sh",
    "k14s.io",
    "cattle.io",
    "gke.io",
    "config.k8s.io",
    "applyset.kubernetes.io",
    "skaffold.dev",
)
"""Whose labels tell a GitOps tool or package manager which objects are its own: it prunes those it did not apply."""
_TRACKING: Final = frozenset({"app.kubernetes.io/instance", "app.kubernetes.io/managed-by"})
"""The first is what Argo CD tracks by unless told otherwise."""


class Rollout(NamedTuple):
    """How a sibling replaces its pods when the user's template was edited."""

    max_surge: int
    max_unavailable: int

    @classmethod
    def within(cls, free_replicas: int) -> "Rollout":
        """Start a new pod first where there are free GPUs for one; else the old pod's GPUs are needed for it."""
        return cls(max_surge=1, max_unavailable=0) if free_replicas > 0 else IN_PLACE


IN_PLACE: Final = Rollout(max_surge=0, max_unavailable=1)


def sibling_of(
    template: KubernetesObject,
    shape: Shape,
    *,
    service: str,
    container: str | None = None,
    rollout: Rollout = IN_PLACE,
    startup_s: float | None = None,
) -> KubernetesObject:
    """Render the Deployment of a shape, with no replicas.

    Args:
        template: The user's Deployment, as the API server gives it.
        shape: What its replicas are to be; the caller has asked ``refusals`` before.
        service: The LLMService that it belongs to, as ``namespace/name``.
        container: The one that runs vLLM, where the Deployment has several.
        rollout: How pods are replaced later on.
        startup_s: Seconds from creation to Ready as learnt for this shape.

    Raises:
        VllmPodError: Nothing can be added to vLLM's arguments.
        InvalidInputError: The template does not ask for GPUs.
    """
    source = read_template(template, container)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(source, shape, service),
        "spec": _spec(source, shape, rollout, startup_s),
    }


def template_digest(template: KubernetesObject) -> str:
    """Twelve hexadecimal digits that change with every edit of a Deployment's pod template, and with nothing else."""
    text = json.dumps(_without_nulls(template["spec"]["template"]), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _metadata(source: Template, shape: Shape, service: str) -> dict[str, Any]:
    """Nothing of the template's own metadata but its namespace and the labels that its pods have as well.

    There stands who applied it, who owns it and which tool may prune it. And a sibling has no owner: no foreground
    deletion, and no finalizer removed by hand, may take serving pods with it.
    """
    labels = (source.deployment["metadata"].get("labels") or {}).items()
    kept = {key: value for key, value in labels if source.pod_labels.get(key) == value and not _is_tracking(key)}
    return {
        "name": sibling_name(source.name, shape),
        "namespace": source.deployment["metadata"]["namespace"],
        "labels": {**kept, **shape.labels},
        "annotations": {
            SHAPE_ANNOTATION: str(shape),
            SERVICE_ANNOTATION: service,
            TEMPLATE_ANNOTATION: source.name,
            TEMPLATE_DIGEST_ANNOTATION: template_digest(source.deployment),
        },
    }


def _spec(source: Template, shape: Shape, rollout: Rollout, startup_s: float | None) -> dict[str, Any]:
    spec = source.deployment["spec"]
    selector = spec["selector"]
    pod_template = {
        **source.pod_template,
        "metadata": {
            **_without_nulls(source.pod_template["metadata"]),
            "labels": {**source.pod_labels, **shape.labels},
        },
        "spec": _pod_spec(source, shape, startup_s),
    }
    start_s = max(needed_s(startup_s), startup_budget_s(_vllm_of(source, pod_template["spec"])) or 0)
    # While an old pod drains and a new one loads nothing progresses, and that is no failure.
    deadline_s = max(
        spec.get("progressDeadlineSeconds") or _DEFAULT_DEADLINE_S,
        grace_s(source.pod_spec) + start_s + spec.get("minReadySeconds", 0) + _DEADLINE_MARGIN_S,
    )
    kept = {name: spec[name] for name in ("minReadySeconds", "revisionHistoryLimit") if name in spec}
    return {
        **kept,
        "replicas": 0,
        "selector": {**selector, "matchLabels": {**(selector.get("matchLabels") or {}), SHAPE_LABEL: shape.digest}},
        "template": pod_template,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": rollout.max_surge, "maxUnavailable": rollout.max_unavailable},
        },
        "progressDeadlineSeconds": deadline_s,
    }


def _pod_spec(source: Template, shape: Shape, startup_s: float | None) -> dict[str, Any]:
    """The pods of a shape; how they drain is kept as it is."""
    gpus = source.gpus
    if gpus is None:
        raise InvalidInputError(f"Deployment {source.name!r}: container {source.container['name']!r} asks for no GPUs")
    after = source.replica_gpus // source.settings.tensor_parallel_size * shape.tensor_parallel_size
    growth = Growth(gpus.number, after)
    vllm = with_flags(source.container, shape.flags)
    resources = scaled_resources(with_gpu_count(vllm["resources"], GpuRequest(gpus.resource, after)), growth)
    pod_spec, vllm = with_shared_memory(source.pod_spec, {**vllm, "resources": resources}, growth)
    if "resources" in pod_spec:  # of the pod as a whole
        pod_spec["resources"] = scaled_resources(pod_spec["resources"], growth)
    vllm = with_startup_budget(vllm, startup_s)
    pod_spec = with_gpu_product(pod_spec, shape.gpu_product)
    pod_spec = packed(pod_spec, source.deployment["spec"]["selector"])
    containers = [vllm if each["name"] == vllm["name"] else each for each in source.pod_spec["containers"]]
    return {**pod_spec, "containers": containers}


def _vllm_of(source: Template, pod_spec: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(one for one in pod_spec["containers"] if one["name"] == source.container["name"])
    return found


def _is_tracking(key: str) -> bool:
    owner = key.partition("/")[0]
    return key in _TRACKING or any(owner == domain or owner.endswith(f".{domain}") for domain in _TRACKED)


def _without_nulls(value: Any) -> Any:
    """API servers of some versions send absent fields, such as ``creationTimestamp``, as nulls."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
