"""Asks the kubelet which pod holds which GPU, over its unix socket.

The kubelet replaces its socket whenever it restarts, and refuses more than some
100 calls per second. A connection is therefore kept for as long as it works, and
made anew by the next call after it did not. Whether anybody listens is found out
with a plain ``connect`` first: that costs next to nothing while the kubelet is
away, and tells a missing mount from a missing permission.
"""

import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.message import DecodeError

from dynawatt.adapters.podresources.podresources_pb2 import (
    ClaimResource,
    ContainerResources,
    ListPodResourcesRequest,
    ListPodResourcesResponse,
)
from dynawatt.ports import AllocationsUnavailable, HeldDevice, PodKey

SOCKET: Final = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
"""Where the kubelet listens. Mount the directory: a mounted socket is gone for good when the kubelet restarts."""
LIST: Final = "/v1.PodResourcesLister/List"
TIMEOUT_S: Final = 1.0
"""An answer takes milliseconds; a kubelet that needs longer is treated as one that is away."""
MAX_BYTES: Final = 4 * 2**20
"""250 pods with every CPU pinned and 8 GPUs each are below 1 MiB."""

_GPU_RESOURCES: Final = frozenset({"nvidia.com/gpu", "nvidia.com/gpu.shared"})
_MIG_PREFIX: Final = "nvidia.com/mig-"
_GPU_DRIVER: Final = "gpu.nvidia.com"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel must not wait out the pause of its predecessor
    ("grpc.enable_retries", 0),
)

_log = logging.getLogger(__name__)


class PodResourcesClient:
    """The kubelet of this node; implements PodAllocations. Not for use by several threads at once.

    Args:
        socket_path: Where the kubelet listens.
        timeout_s: For one answer, connecting included.
    """

    def __init__(self, socket_path: Path = SOCKET, *, timeout_s: float = TIMEOUT_S) -> None:
        self._path = socket_path
        self._timeout_s = timeout_s
        self._channel: grpc.Channel | None = None

    def held_devices(self) -> list[HeldDevice]:
        """GPUs, and parts of them, that the pods of this node hold, sorted. Raises AllocationsUnavailable."""
        answer = self._list()
        try:
            response = ListPodResourcesResponse.FromString(answer)
        except DecodeError:
            raise AllocationsUnavailable(f"the answer of the kubelet at {self._path} cannot be read") from None
        # A claim may be shared by containers of a pod, which then all have its devices.
        held = {
            device
            for pod in response.pod_resources
            for container in pod.containers
            for device in _gpus(PodKey(pod.namespace, pod.name), container)
        }
        return sorted(held)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _list(self) -> bytes:
        if self._channel is None:
            self._knock()
            self._channel = grpc.insecure_channel(f"unix:{self._path.absolute()}", options=_OPTIONS)
        try:
            # Bytes, because grpc logs a traceback for an answer that it cannot decode.
            answer: bytes = self._channel.unary_unary(LIST)(
                ListPodResourcesRequest().SerializeToString(), timeout=self._timeout_s
            )
        except grpc.RpcError as error:
            self.close()
            _log.debug("podresources socket=%s code=%s details=%r", self._path, error.code(), error.details())
            raise AllocationsUnavailable(self._told(error)) from None
        return answer

    def _knock(self) -> None:
        """Raises AllocationsUnavailable when nobody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
            knocking.settimeout(self._timeout_s)
            try:
                knocking.connect(os.fspath(self._path))
            except OSError as error:
                why = _REMEDIES.get(error.errno or 0) or error.strerror or str(error)
                raise AllocationsUnavailable(f"no kubelet at {self._path}: {why}") from None

    def _told(self, error: grpc.RpcError) -> str:
        """In words that stay the same while it lasts, unlike grpc's."""
        kubelet = f"the kubelet at {self._path}"
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"{kubelet} did not answer within {self._timeout_s:g} s"
            case grpc.StatusCode.UNAVAILABLE:
                return f"{kubelet} closed the connection"
            case grpc.StatusCode.UNIMPLEMENTED:
                return f"{kubelet} does not serve PodResources v1, as Kubernetes does since 1.20"
            case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" in (error.details() or ""):
                return f"{kubelet} answered with more than {MAX_BYTES // 2**20} MiB"
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return f"{kubelet} is asked too often: all callers together have some 100 calls a second"
            case code:
                return f"{kubelet} answered {code.name}"


_REMEDIES: Final = {
    errno.ENOENT: "the socket does not exist; is the directory mounted, and does the kubelet run?",
    errno.ENOTDIR: "the socket does not exist; is the directory mounted, and does the kubelet run?",
    errno.EACCES: "permission denied; the agent must run as root",
    errno.EPERM: "permission denied; the agent must run as root",
    errno.ECONNREFUSED: "nobody listens on the socket; does the kubelet run?",
    errno.EPROTOTYPE: "it is not a stream socket",
}


def _gpus(pod: PodKey, container: ContainerResources) -> Iterator[HeldDevice]:
    for devices in container.devices:
        resource = devices.resource_name
        if resource in _GPU_RESOURCES or resource.startswith(_MIG_PREFIX):
            for device_id in devices.device_ids:
                yield HeldDevice(pod, resource, device_id)
    for dynamic in container.dynamic_resources:
        for claimed in dynamic.claim_resources:
            if _is_gpu(claimed):
                yield HeldDevice(pod, claimed.driver_name or _GPU_DRIVER, _name(claimed), dynamic=True)


def _is_gpu(claimed: ClaimResource) -> bool:
    """Older kubelets name only the CDI devices, as in ``k8s.gpu.nvidia.com/claim=...``."""
    drivers = [claimed.driver_name] if claimed.driver_name else [cdi.name.split("/")[0] for cdi in claimed.cdi_devices]
    return any(name == _GPU_DRIVER or name.endswith(f".{_GPU_DRIVER}") for name in drivers)


def _name(claimed: ClaimResource) -> str:
    if claimed.device_name:
        return f"{claimed.pool_name}/{claimed.device_name}"
    return ",".join(sorted(cdi.name for cdi in claimed.cdi_devices))
