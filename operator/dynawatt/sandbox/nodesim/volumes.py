"""The volumes of a pod as directories of this machine."""

import base64
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.sandbox.nodesim.container import ContainerError
from dynawatt.sandbox.nodesim.pod_resources import pod_resources_socket

_POD_RESOURCES: Final = "/var/lib/kubelet/pod-resources"
_SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Kubernetes mounts the token there; processes are told of theirs by variables instead."""

ReadObject = Callable[[str, str, str], Awaitable[KubernetesObject]]
"""An object by plural, namespace and name."""


class Volumes:
    """What pods of one node mount."""

    def __init__(self, state_dir: Path, *, node: str, read: ReadObject) -> None:
        """``state_dir`` holds the file systems of nodes, which outlive pods; ``read`` gets ConfigMaps and Secrets."""
        self._state_dir = state_dir
        self._node = node
        self._read = read

    async def mounted(self, pod: Mapping[str, Any], container: Mapping[str, Any], directory: Path) -> dict[str, Path]:
        """Make the volumes that a container mounts, those of the pod itself in ``directory``.

        Raises:
            ContainerError: A volume is of a kind that is not played here.
            ApiException: A ConfigMap or Secret cannot be read.
        """
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
        paths: dict[str, Path] = {}
        for mount in container.get("volumeMounts") or ():
            path: str = mount["mountPath"]
            if path == _SERVICE_ACCOUNT:
                continue
            volume = volumes[mount["name"]]
            paths[path] = await self._made(volume, pod["metadata"]["namespace"], directory / mount["name"])
            if volume.get("hostPath", {}).get("path") == _POD_RESOURCES:  # the address of a socket must be short
                paths[f"{path}/kubelet.sock"] = pod_resources_socket(self._state_dir, self._node)
        return paths

    async def _made(self, volume: Mapping[str, Any], namespace: str, directory: Path) -> Path:
        if "hostPath" in volume:
            directory = self._state_dir / "hosts" / self._node / volume["hostPath"]["path"].lstrip("/")
            directory.mkdir(parents=True, exist_ok=True)
        elif "emptyDir" in volume:
            directory.mkdir(parents=True, exist_ok=True)
        elif "secret" in volume:
            secret = await self._read("secrets", namespace, volume["secret"]["secretName"])
            _write(directory, {key: base64.b64decode(text) for key, text in (secret.get("data") or {}).items()})
        elif "configMap" in volume:
            config_map = await self._read("configmaps", namespace, volume["configMap"]["name"])
            _write(directory, {key: text.encode() for key, text in (config_map.get("data") or {}).items()})
        else:
            [kind] = volume.keys() - {"name"}
            raise ContainerError(f"volume {volume['name']}: {kind} is not played here")
        return directory


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, content in files.items():
        (directory / name).touch(mode=0o600)
        (directory / name).write_bytes(content)
