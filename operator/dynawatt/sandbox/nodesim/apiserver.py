"""The kubelets' writes to the Kubernetes API."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    describe_error,
    is_conflict,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.ports import PodKey

_COMPONENT: Final = "dynawatt-nodesim"

_log = logging.getLogger(__name__)


class ApiServerWriter:
    """Implements kubelet.PodWriter."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

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

    async def _send(self, method: Literal["POST", "DELETE"], path: str, body: Mapping[str, Any]) -> None:
        try:
            await asyncio.to_thread(request_json, self._api, method, path, body=body)
        except API_ERRORS as error:
            # The pod may be gone already, or another one may have its name.
            if not is_not_found(error) and not is_conflict(error):
                _log.warning("%s %s failed: %s", method, path, describe_error(error))
