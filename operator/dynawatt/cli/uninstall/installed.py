"""What dynawatt has changed in a cluster and written into it, and how that goes away."""

from collections.abc import Mapping
from typing import Any, Final

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import (
    MERGE_PATCH,
    KubernetesObject,
    is_conflict,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.group import (
    API_VERSION,
    CLAIM_ANNOTATION,
    FINALIZER,
    GPUNODE_PLURAL,
    GROUP,
    LEASE_NAME,
    LLMSERVICE_PLURAL,
    SHAPE_LABEL,
)
from dynawatt.api.switch import GIVE_BACK_DATA, SWITCH_NAME

_PROCESSES: Final = "app.kubernetes.io/name=dynawatt,app.kubernetes.io/component in (operator,agent,agent-clocks)"
"""Labels of their pods, as the chart sets them."""
_TEST_POD: Final = "dynawatt-doctor"
"""Which `helm test` leaves to be read."""
_PAGE: Final = "500"


class Installed:
    """One installation. Every method may raise API_ERRORS."""

    def __init__(self, api: ApiClient, *, namespace: str) -> None:
        """Use a connected client; ``namespace`` is where operator and agents run."""
        self._api = api
        self._namespace = namespace

    def switch_to_giving_back(self) -> None:
        """Tell the operator by its switch, whether there is one or not."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": SWITCH_NAME, "namespace": self._namespace},
            "data": dict(GIVE_BACK_DATA),
        }
        try:
            request_json(self._api, "POST", resource_path("v1", "configmaps", namespace=self._namespace), body=body)
        except Exception as error:
            if not is_conflict(error):
                raise
            path = resource_path("v1", "configmaps", namespace=self._namespace, name=SWITCH_NAME)
            request_json(self._api, "PUT", path, body=body)

    def not_given_back(self) -> list[str]:
        """What the operator still holds, one sentence each."""
        left = [
            f"LLMService {_key(service)}: {problem}"
            for service in self._items(API_VERSION, LLMSERVICE_PLURAL)
            if (problem := _holds(service.get("status") or {}))
        ]
        siblings = self._items("apps/v1", "deployments", {"labelSelector": SHAPE_LABEL})
        left += [f"Deployment {_key(sibling)} is a sibling" for sibling in siblings]
        claimed = [pod for pod in self._items("v1", "pods") if CLAIM_ANNOTATION in _annotations(pod)]
        return left + ([f"{len(claimed)} pods have clock claims"] if claimed else [])

    def running(self) -> list[str]:
        """Pods of the operator and of agents."""
        pods = self._items("v1", "pods", {"labelSelector": _PROCESSES}, namespace=self._namespace)
        return [f"pod {pod['metadata']['name']}" for pod in pods]

    def clean_up(self) -> None:
        """Remove what they wrote; may be repeated."""
        for service in self._items(API_VERSION, LLMSERVICE_PLURAL):
            self._forget(service)
        for node in self._items(API_VERSION, GPUNODE_PLURAL):
            self._delete(resource_path(API_VERSION, GPUNODE_PLURAL, name=node["metadata"]["name"]))
        leases = "coordination.k8s.io/v1"
        self._delete(resource_path(leases, "leases", namespace=self._namespace, name=LEASE_NAME))
        self._delete(resource_path("v1", "configmaps", namespace=self._namespace, name=SWITCH_NAME))
        self._delete(resource_path("v1", "pods", namespace=self._namespace, name=_TEST_POD))

    def _forget(self, service: KubernetesObject) -> None:
        """Leave an LLMService as its user wrote it; without the finalizer it can be deleted though nobody looks."""
        metadata = service["metadata"]
        path = resource_path(API_VERSION, LLMSERVICE_PLURAL, namespace=metadata["namespace"], name=metadata["name"])
        try:
            if service.get("status"):
                self._patch(f"{path}/status", {"status": None})
            ours = {key: None for key in _annotations(service) if key.startswith(f"{GROUP}/")}
            kept = [name for name in metadata.get("finalizers") or () if name != FINALIZER]
            if ours or kept != (metadata.get("finalizers") or []):
                self._patch(path, {"metadata": {"annotations": ours, "finalizers": kept}})
        except Exception as error:
            if not is_not_found(error):  # deleted meanwhile
                raise

    def _patch(self, path: str, body: Mapping[str, Any]) -> None:
        request_json(self._api, "PATCH", path, body=body, content_type=MERGE_PATCH)

    def _delete(self, path: str) -> None:
        try:
            request_json(self._api, "DELETE", path)
        except Exception as error:
            if not is_not_found(error):
                raise

    def _items(
        self, api_version: str, plural: str, query: Mapping[str, str] | None = None, *, namespace: str | None = None
    ) -> list[KubernetesObject]:
        """All of a kind, page by page; none where the kind does not exist."""
        path, found, after = resource_path(api_version, plural, namespace=namespace), [], ""
        while True:
            page = {**(query or {}), "limit": _PAGE, **({"continue": after} if after else {})}
            try:
                answer = request_json(self._api, "GET", path, query=page)
            except Exception as error:
                if is_not_found(error):
                    return []
                raise
            found += answer["items"]
            after = answer["metadata"].get("continue") or ""
            if not after:
                return found


def _holds(status: Mapping[str, Any]) -> str:
    """Why the operator has not let go of an LLMService; empty when it has, or never took it up."""
    if status.get("adopted"):
        return "its replicas are not given back"
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    ready = conditions.get(ConditionType.READY, {})
    if ready.get("status") == "True" and ready.get("reason") != Reason.SWITCHED_OFF:
        return "the operator has not seen the switch yet"
    return str(ready.get("message", "")) if ready.get("reason") == Reason.GIVING_BACK else ""


def _annotations(found: KubernetesObject) -> Mapping[str, str]:
    annotations: Mapping[str, str] = found["metadata"].get("annotations") or {}
    return annotations


def _key(found: KubernetesObject) -> str:
    return f"{found['metadata']['namespace']}/{found['metadata']['name']}"
