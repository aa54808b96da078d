"""The kubelet's PodResources API of simulated nodes: a gRPC server on a unix socket for each.

Every server has threads of its own, so that tests can use one without an event
loop. An answer for 8 pods costs some 0.7 ms of CPU, and each agent asks once a second.
"""

import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import grpc

from dynawatt.adapters.podresources.podresources_pb2 import ListPodResourcesRequest, ListPodResourcesResponse
from dynawatt.errors import OperationError
from dynawatt.ports import HeldDevice, PodKey
from dynawatt.sandbox.nodesim.nodes import GPU_RESOURCE, SimulatedNode

SOCKET_PATH_BYTES: Final = 107
"""What fits into the address of a unix socket."""
_STOP_TIMEOUT_S: Final = 2.0
_DELAY_STEP_S: Final = 0.01

_log = logging.getLogger(__name__)


def pod_resources_socket(state_dir: Path, node: str) -> Path:
    """Where a node's server listens: below ``state_dir``, or in a short place when that is too long for a socket."""
    path = state_dir.absolute() / "kubelet" / f"{node}.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"dynawatt-{os.getuid()}" / f"{digest}.sock"


def held_devices(node: SimulatedNode) -> list[HeldDevice]:
    """What NVIDIA's device plug-in has handed out on a node; may be called from any thread."""
    allocations = tuple(node.allocations.values())  # at once, as the event loop may change them
    return [HeldDevice(held.pod, GPU_RESOURCE, gpu.uuid) for held in allocations for gpu in held.gpus]


class PodResourcesServer:
    """One kubelet, as far as PodResources go. The switches may be set at any time, from any thread.

    Args:
        socket_path: Where to listen; the directory is made, for this user only.
        held: What pods hold, asked for every answer. Shares, MIG, resource claims and pods that have ended are a matter
            of what it gives.
    """

    def __init__(self, socket_path: Path, held: Callable[[], Iterable[HeldDevice]]) -> None:
        self.delay_s = 0.0
        """How long an answer takes, or until the caller gives up."""
        self.status: grpc.StatusCode | None = None
        """Fail with this instead of answering."""
        self.raw: bytes | None = None
        """Answer with this instead of what is true."""
        self.calls = 0
        """Answered or not."""
        self._path = socket_path
        self._held = held
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Listen. Raises OperationError."""
        _make_private(self._path.parent)
        with suppress(FileNotFoundError):
            self._path.unlink()
        method = grpc.unary_unary_rpc_method_handler(self._list)
        server = grpc.server(ThreadPoolExecutor(max_workers=1, thread_name_prefix="podresources"))
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": method}),)
        )
        try:
            server.add_insecure_port(f"unix:{self._path}")
        except RuntimeError as error:
            raise OperationError(f"cannot listen on {self._path}: {error}") from None
        server.start()
        self._server = server

    def stop(self) -> None:
        """Break all connections and take the socket away, as an ending kubelet does."""
        if self._server is not None:
            self._server.stop(grace=None).wait(_STOP_TIMEOUT_S)
            self._server = None
        with suppress(FileNotFoundError):
            self._path.unlink()

    def _list(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        ListPodResourcesRequest.FromString(request)
        answer_s = time.monotonic() + self.delay_s
        while self.delay_s and context.is_active() and time.monotonic() < answer_s:
            time.sleep(_DELAY_STEP_S)
        if self.status is not None:
            context.abort(self.status, "as the switch says")
        return _answer(self._held()) if self.raw is None else self.raw


class PodResourcesServers:
    """The kubelets of all simulated nodes, each with its socket below the same directory."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._servers: dict[str, PodResourcesServer] = {}

    def follow(self, nodes: Mapping[str, SimulatedNode]) -> None:
        """Serve exactly these nodes. Raises OperationError."""
        for name in self._servers.keys() - nodes.keys():
            self._servers.pop(name).stop()
        for name in nodes.keys() - self._servers.keys():
            path = pod_resources_socket(self._state_dir, name)
            if not path.is_relative_to(self._state_dir.absolute()):
                _log.info("pod_resources node=%s socket=%s: below %s it were too long", name, path, self._state_dir)
            self._servers[name] = PodResourcesServer(path, partial(held_devices, nodes[name]))
            self._servers[name].start()

    def stop(self) -> None:
        """End all of them."""
        self.follow({})


def _answer(held: Iterable[HeldDevice]) -> bytes:
    """The kubelet's answer, with one container for each pod."""
    by_pod: dict[PodKey, dict[tuple[bool, str], list[str]]] = {}
    for device in held:
        by_pod.setdefault(device.pod, {}).setdefault((device.dynamic, device.resource), []).append(device.device_id)
    response = ListPodResourcesResponse()
    for pod, resources in by_pod.items():
        container = response.pod_resources.add(namespace=pod.namespace, name=pod.name).containers.add(name="main")
        for (dynamic, resource), ids in resources.items():
            if not dynamic:
                container.devices.add(resource_name=resource, device_ids=ids)
                continue
            claim = container.dynamic_resources.add(claim_name="gpus", claim_namespace=pod.namespace)
            for device_id in ids:
                pool, _, device_name = device_id.rpartition("/")
                claim.claim_resources.add(driver_name=resource, pool_name=pool, device_name=device_name)
    return response.SerializeToString()


def _make_private(directory: Path) -> None:
    """Raises OperationError when it belongs to somebody else, who could put sockets of their own there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        raise OperationError(f"cannot use {directory} for sockets: it belongs to another user")
