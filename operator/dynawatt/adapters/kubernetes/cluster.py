"""What the operator changes in the cluster, one method per request; what it reads is in ``mirror``.

Calls block; async callers put them on a thread. Errors are those of the client
(``client.API_ERRORS``), except where a method says otherwise.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import (
    MERGE_PATCH,
    KubernetesObject,
    is_conflict,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.api.group import FIELD_MANAGER

_APPS: Final = "apps/v1"
_LEASES: Final = "coordination.k8s.io/v1"

_Method: TypeAlias = Literal["POST", "PUT", "PATCH", "DELETE"]


class Cluster:
    """The operator's hands in one cluster."""

    def __init__(self, api: ApiClient, *, on_write: Callable[[str, str], None] = lambda _verb, _resource: None) -> None:
        """Use a connected client; ``on_write`` is told verb and resource of everything that was changed."""
        self._api = api
        self._on_write = on_write

    def scale(self, deployment: KubernetesObject, replicas: int) -> bool:
        """Set the replicas of a Deployment as it was read; False when it changed meanwhile or is gone."""
        metadata = deployment["metadata"]
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {key: metadata[key] for key in ("namespace", "name", "resourceVersion")},
            "spec": {"replicas": replicas},
        }
        return self._sent("PUT", _deployment_path(deployment) + "/scale", body)

    def create_deployment(self, deployment: KubernetesObject) -> bool:
        """Create a sibling; False when there is one of that name already."""
        path = resource_path(_APPS, "deployments", namespace=deployment["metadata"]["namespace"])
        return self._sent("POST", path, deployment)

    def replace_deployment(self, deployment: KubernetesObject) -> bool:
        """Put a sibling in the place of the version that it was made from; False when that changed or is gone."""
        return self._sent("PUT", _deployment_path(deployment), deployment)

    def delete_deployment(self, deployment: KubernetesObject) -> bool:
        """Delete exactly this sibling, and its pods after it; False when it changed meanwhile or is gone."""
        metadata = deployment["metadata"]
        conditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"preconditions": conditions, "propagationPolicy": "Background"}
        return self._sent("DELETE", _deployment_path(deployment), body)

    def annotate_pod(self, pod: KubernetesObject, annotations: Mapping[str, str | None]) -> bool:
        """Set or (with None) remove annotations of exactly this pod; False when it is gone."""
        metadata = pod["metadata"]
        body = {"metadata": {"uid": metadata["uid"], "annotations": dict(annotations)}}
        path = resource_path("v1", "pods", namespace=metadata["namespace"], name=metadata["name"])
        try:
            return self._sent("PATCH", path, body, MERGE_PATCH)
        except Exception as error:
            if is_not_found(error):
                return False
            raise

    def access_modes(self, namespace: str, claim: str) -> list[str] | None:
        """Of a PersistentVolumeClaim; None when it does not exist."""
        path = resource_path("v1", "persistentvolumeclaims", namespace=namespace, name=claim)
        found = self._get_or_none(path)
        return None if found is None else found["spec"].get("accessModes") or []

    def lease(self, namespace: str, name: str) -> KubernetesObject | None:
        """A Lease, or None when it does not exist."""
        return self._get_or_none(resource_path(_LEASES, "leases", namespace=namespace, name=name))

    def config_map(self, namespace: str, name: str) -> KubernetesObject | None:
        """A ConfigMap, or None when it does not exist."""
        return self._get_or_none(resource_path("v1", "configmaps", namespace=namespace, name=name))

    def write_lease(self, lease: KubernetesObject) -> KubernetesObject | None:
        """Create a Lease, or update it when it carries a resourceVersion; None when somebody else was first."""
        metadata = lease["metadata"]
        update = "resourceVersion" in metadata
        path = resource_path(
            _LEASES, "leases", namespace=metadata["namespace"], name=metadata["name"] if update else None
        )
        try:
            written = request_json(self._api, "PUT" if update else "POST", path, body=lease)
        except Exception as error:
            if is_conflict(error):
                return None
            raise
        self._on_write("update" if update else "create", "leases")
        return written

    def _sent(self, method: _Method, path: str, body: object, content_type: str = "application/json") -> bool:
        """Whether the request was carried out, or came too late for what it was made from."""
        query = {"fieldManager": FIELD_MANAGER} if method != "DELETE" else None
        try:
            request_json(self._api, method, path, query=query, body=body, content_type=content_type)
        except Exception as error:
            if is_conflict(error) or (method in ("PUT", "DELETE") and is_not_found(error)):
                return False
            raise
        self._on_write(_VERBS[method], _resource(path))
        return True

    def _get_or_none(self, path: str) -> KubernetesObject | None:
        try:
            return request_json(self._api, "GET", path)
        except Exception as error:
            if is_not_found(error):
                return None
            raise


_VERBS: Final[Mapping[_Method, str]] = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def _resource(path: str) -> str:
    """As in ``deployments/scale``: what is under the namespace, without the object's name."""
    plural, _, rest = path.partition("/namespaces/")[2].partition("/")[2].partition("/")
    _, _, subresource = rest.partition("/")
    return f"{plural}/{subresource}" if subresource else plural


def _deployment_path(deployment: KubernetesObject) -> str:
    metadata = deployment["metadata"]
    return resource_path(_APPS, "deployments", namespace=metadata["namespace"], name=metadata["name"])


def parse_time(text: str) -> datetime:
    """A Kubernetes timestamp."""
    return datetime.fromisoformat(text).astimezone(UTC)
