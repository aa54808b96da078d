"""Single objects, read when they are asked for: for commands that look once."""

from collections.abc import Mapping
from typing import Any

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import KubernetesObject, is_not_found, request_json, resource_path
from dynawatt.adapters.kubernetes.selectors import label_selector


class ClusterReader:
    """Reads one cluster. Every method raises API_ERRORS."""

    def __init__(self, api: ApiClient) -> None:
        """Use a connected client."""
        self._api = api

    def deployment(self, namespace: str, name: str) -> KubernetesObject | None:
        """A Deployment, or None when it does not exist."""
        return self._get_or_none(resource_path("apps/v1", "deployments", namespace=namespace, name=name))

    def node(self, name: str) -> KubernetesObject | None:
        """A Node, or None when it does not exist."""
        return self._get_or_none(resource_path("v1", "nodes", name=name))

    def pods(self, namespace: str, selector: Mapping[str, Any]) -> list[KubernetesObject]:
        """Pods that a Deployment's selector matches."""
        query = {"labelSelector": label_selector(selector)}
        found = request_json(self._api, "GET", resource_path("v1", "pods", namespace=namespace), query=query)
        items: list[KubernetesObject] = found["items"]
        return items

    def _get_or_none(self, path: str) -> KubernetesObject | None:
        try:
            return request_json(self._api, "GET", path)
        except Exception as error:
            if is_not_found(error):
                return None
            raise
