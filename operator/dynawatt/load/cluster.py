"""What a load test reads from a cluster: the Ready pods behind a Service, and the objectives of an LLMService.

Requests go to the pods themselves, as a gateway's would, not through the
Service's address: kube-proxy would spread them at random.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    KubernetesObject,
    api_client,
    describe_error,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.adapters.kubernetes.selectors import label_selector
from dynawatt.adapters.kubernetes.watch import EventType, Watcher
from dynawatt.adapters.objectives import latency_objectives
from dynawatt.api.group import API_VERSION, LLMSERVICE_PLURAL
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.load.endpoints import Endpoint
from dynawatt.workload.objectives import LatencyObjectives

_SYNC_TIMEOUT_S: Final = 15.0


class ObjectName(NamedTuple):
    """A namespaced object as users write it."""

    namespace: str
    name: str

    @classmethod
    def parse(cls, option: str, text: str) -> Self:
        """Read NAMESPACE/NAME. Raises InvalidInputError."""
        namespace, slash, name = text.partition("/")
        if not (slash and namespace and name) or "/" in name:
            raise InvalidInputError(f"{option} {text}: must be NAMESPACE/NAME")
        return cls(namespace, name)

    def __str__(self) -> str:
        """Render as it was written."""
        return f"{self.namespace}/{self.name}"


class ServiceEndpoints:
    """The Ready pods that a Service selects and that are not ending, kept current by a watch.

    Use it as an async context manager: entering it waits for the first list. Selector and ports are read once.
    """

    def __init__(self, service: ObjectName, kubeconfig: Path | None) -> None:
        self._service = service
        self._kubeconfig = kubeconfig
        self._by_uid: dict[str, Endpoint] = {}
        self._current: tuple[Endpoint, ...] = ()

    def current(self) -> Sequence[Endpoint]:
        """The pods that take requests now."""
        return self._current

    async def __aenter__(self) -> Self:
        """Begin. Raises InvalidInputError for a Service that cannot be used, OperationError without an API."""
        api = api_client(self._kubeconfig)
        service = await asyncio.to_thread(_read, api, "--service", "v1", "services", self._service)
        self._target_port = _target_port(self._service, service)
        self._loop = asyncio.get_running_loop()
        self._watcher = Watcher(
            api,
            resource_path("v1", "pods", namespace=self._service.namespace),
            label_selector=label_selector({"matchLabels": _selector(self._service, service)}),
            on_event=self._pod_changed,
        ).start()
        try:
            await self._synced()
        except BaseException:
            await self._close()
            raise
        self._refresh()
        return self

    async def _synced(self) -> None:
        give_up_s = self._loop.time() + _SYNC_TIMEOUT_S
        while not self._watcher.synced.is_set():
            if self._loop.time() > give_up_s:
                reason = self._watcher.last_error or "no answer"
                raise OperationError(f"pods of --service {self._service}: cannot be listed: {reason}")
            await asyncio.sleep(0.02)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the watch."""
        await self._close()

    async def _close(self) -> None:
        await asyncio.to_thread(self._watcher.stop)

    def _pod_changed(self, _kind: EventType, _pod: KubernetesObject) -> None:
        """In the watch's own thread."""
        self._loop.call_soon_threadsafe(self._refresh)

    def _refresh(self) -> None:
        pods = self._watcher.snapshot()
        found: dict[str, Endpoint] = {}
        for uid, pod in pods.items():
            address = pod_address(pod, self._target_port)
            if address is not None:
                found[uid] = self._by_uid.get(uid) or Endpoint(pod["metadata"]["name"], f"http://{address}")
        self._by_uid = found
        self._current = tuple(found.values())


def pod_address(pod: KubernetesObject, target_port: int | str) -> str | None:
    """``host:port`` of a pod that takes requests, else None; a port's name is looked up in its containers."""
    status = pod.get("status") or {}
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions") or ()}
    address = status.get("podIP")
    if pod["metadata"].get("deletionTimestamp") or conditions.get("Ready") != "True" or not address:
        return None
    if isinstance(target_port, str):
        ports = [port for container in pod["spec"]["containers"] for port in container.get("ports") or ()]
        named = [port["containerPort"] for port in ports if port.get("name") == target_port]
        if not named:
            return None
        target_port = named[0]
    return f"[{address}]:{target_port}" if ":" in address else f"{address}:{target_port}"


async def read_objectives(llmservice: ObjectName, kubeconfig: Path | None) -> LatencyObjectives:
    """The objectives in ``spec.slo`` of an LLMService. Raises InvalidInputError or OperationError."""
    api = api_client(kubeconfig)
    found = await asyncio.to_thread(_read, api, "--llmservice", API_VERSION, LLMSERVICE_PLURAL, llmservice)
    return latency_objectives(LLMServiceSpec.parse(found["spec"]).slo)


def _read(api: ApiClient, option: str, api_version: str, plural: str, wanted: ObjectName) -> KubernetesObject:
    try:
        return request_json(
            api, "GET", resource_path(api_version, plural, namespace=wanted.namespace, name=wanted.name)
        )
    except API_ERRORS as error:
        if is_not_found(error):
            raise InvalidInputError(
                f"{option} {wanted}: does not exist; see: kubectl get {plural} --namespace {wanted.namespace}"
            ) from error
        raise OperationError(f"{option} {wanted}: cannot be read: {describe_error(error)}") from error


def _selector(name: ObjectName, service: KubernetesObject) -> dict[str, str]:
    selector: dict[str, str] = service["spec"].get("selector") or {}
    if not selector:
        raise InvalidInputError(f"--service {name}: selects no pods; give a Service with a selector")
    return selector


def _target_port(name: ObjectName, service: KubernetesObject) -> int | str:
    ports = service["spec"].get("ports") or []
    chosen = ports if len(ports) == 1 else [port for port in ports if port.get("name") == "http"]
    if len(chosen) != 1:
        names = ", ".join(str(port.get("name") or port["port"]) for port in ports) or "none"
        raise InvalidInputError(f"--service {name}: has the ports {names}; must have one, or one that is named http")
    port: int | str = chosen[0].get("targetPort", chosen[0]["port"])
    return port
