"""What the operator reads and changes in the cluster, one method per request.

Calls block; async callers put them on a thread. Errors are those of the client
(``client.API_ERRORS``), except where a method says otherwise.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

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

_APPS = "apps/v1"
_LEASES = "coordination.k8s.io/v1"


class Cluster:
    """The operator's view of one cluster."""

    def __init__(self, api: ApiClient) -> None:
        """Use a connected client."""
        self._api = api

    def deployment(self, namespace: str, name: str) -> KubernetesObject | None:
        """A Deployment, or None when it does not exist."""
        return self._get_or_none(resource_path(_APPS, "deployments", namespace=namespace, name=name))

    def node(self, name: str) -> KubernetesObject | None:
        """A Node, or None when it does not exist."""
        return self._get_or_none(resource_path("v1", "nodes", name=name))

    def pods(self, namespace: str, selector: Mapping[str, Any]) -> list[KubernetesObject]:
        """Pods that a Deployment's selector matches."""
        query = {"labelSelector": label_selector(selector)}
        found = request_json(self._api, "GET", resource_path("v1", "pods", namespace=namespace), query=query)
        items: list[KubernetesObject] = found["items"]
        return items

    def autoscalers(self, namespace: str, deployment: str) -> list[str]:
        """Names of the HorizontalPodAutoscalers that scale a Deployment."""
        path = resource_path("autoscaling/v2", "horizontalpodautoscalers", namespace=namespace)
        targets = [(hpa["metadata"]["name"], hpa["spec"]["scaleTargetRef"]) for hpa in self._items(path)]
        return [name for name, ref in targets if ref["kind"] == "Deployment" and ref["name"] == deployment]

    def scale(self, deployment: KubernetesObject, replicas: int) -> bool:
        """Set the replicas of a Deployment as it was read; False when somebody changed it meanwhile."""
        metadata = deployment["metadata"]
        path = resource_path(_APPS, "deployments", namespace=metadata["namespace"], name=metadata["name"]) + "/scale"
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {key: metadata[key] for key in ("namespace", "name", "resourceVersion")},
            "spec": {"replicas": replicas},
        }
        try:
            request_json(self._api, "PUT", path, query={"fieldManager": FIELD_MANAGER}, body=body)
        except Exception as error:
            if is_conflict(error):
                return False
            raise
        return True

    def annotate_pod(self, pod: KubernetesObject, annotations: Mapping[str, str | None]) -> bool:
        """Set or (with None) remove annotations of exactly this pod; False when it is gone."""
        metadata = pod["metadata"]
        body = {"metadata": {"uid": metadata["uid"], "annotations": dict(annotations)}}
        path = resource_path("v1", "pods", namespace=metadata["namespace"], name=metadata["name"])
        try:
            request_json(
                self._api, "PATCH", path, query={"fieldManager": FIELD_MANAGER}, body=body, content_type=MERGE_PATCH
            )
        except Exception as error:
            if is_not_found(error) or is_conflict(error):
                return False
            raise
        return True

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
            return request_json(self._api, "PUT" if update else "POST", path, body=lease)
        except Exception as error:
            if is_conflict(error):
                return None
            raise

    def _items(self, path: str) -> list[KubernetesObject]:
        items: list[KubernetesObject] = request_json(self._api, "GET", path)["items"]
        return items

    def _get_or_none(self, path: str) -> KubernetesObject | None:
        try:
            return request_json(self._api, "GET", path)
        except Exception as error:
            if is_not_found(error):
                return None
            raise


def label_selector(selector: Mapping[str, Any]) -> str:
    """A LabelSelector object as the query parameter; an empty one matches everything."""
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, operator, values = expression["key"], expression["operator"], ",".join(expression.get("values") or ())
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[operator]
        )
    return ",".join(terms)


def parse_time(text: str) -> datetime:
    """A Kubernetes timestamp."""
    return datetime.fromisoformat(text).astimezone(UTC)
