"""The kubelets' writes to the Kubernetes API."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    KubernetesObject,
    describe_error,
    is_conflict,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.ports import PodKey
from dynawatt.sandbox.api import LONGEST_TOKEN_S
from dynawatt.sandbox.credentials import kubeconfig

_COMPONENT: Final = "dynawatt-nodesim"
_STRATEGIC_MERGE: Final = "application/strategic-merge-patch+json"
_Method: TypeAlias = Literal["POST", "PATCH", "DELETE"]

_log = logging.getLogger(__name__)


class ApiServerWriter:
    """Implements kubelet.PodWriter and process_pod.PodApi."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._authority = Path(api.configuration.ssl_ca_cert).read_bytes()

    async def delete(self, pod: PodKey, uid: str) -> None:
        """Remove the Pod object now, if it is still the same pod."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": uid},
        }
        await self._send("DELETE", resource_path("v1", "pods", namespace=pod.namespace, name=pod.name), options)

    async def warn(self, pod: PodKey, uid: str, reason: str, message: str) -> None:
        """Post a warning Event on the pod."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{pod.name}.", "namespace": pod.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": pod.namespace,
                "name": pod.name,
                "uid": uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message,
            "source": {"component": _COMPONENT},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._send("POST", resource_path("v1", "events", namespace=pod.namespace), event)

    async def put_status(self, pod: PodKey, uid: str, status: Mapping[str, Any]) -> None:
        """Merge this into the pod's status, if it is still the same pod."""
        path = resource_path("v1", "pods", namespace=pod.namespace, name=pod.name)
        await self._send("PATCH", f"{path}/status", {"metadata": {"uid": uid}, "status": status}, _STRATEGIC_MERGE)

    async def read(self, plural: str, namespace: str, name: str) -> KubernetesObject:
        """A core object. Raises API_ERRORS."""
        path = resource_path("v1", plural, namespace=namespace, name=name)
        return await asyncio.to_thread(request_json, self._api, "GET", path)

    async def pod_kubeconfig(self, pod: KubernetesObject) -> str:
        """A kubeconfig with a new token of the pod's ServiceAccount, bound to the pod. Raises API_ERRORS."""
        metadata, account = pod["metadata"], pod["spec"].get("serviceAccountName", "default")
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        spec = {"expirationSeconds": LONGEST_TOKEN_S, "boundObjectRef": bound}
        path = resource_path("v1", "serviceaccounts", namespace=metadata["namespace"], name=account) + "/token"
        answer = await asyncio.to_thread(request_json, self._api, "POST", path, body={"spec": spec})
        server = self._api.configuration.host
        return kubeconfig(server=server, certificate=self._authority, user=account, token=answer["status"]["token"])

    async def _send(
        self, method: _Method, path: str, body: Mapping[str, Any], content_type: str = "application/json"
    ) -> None:
        try:
            await asyncio.to_thread(request_json, self._api, method, path, body=body, content_type=content_type)
        except API_ERRORS as error:
            # The pod may be gone already, or another one may have its name.
            if not is_not_found(error) and not is_conflict(error):
                _log.warning("%s %s failed: %s", method, path, describe_error(error))
