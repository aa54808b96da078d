"""CPU, memory and shared memory of a replica with another number of GPUs."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple

from dynawatt.controller.shapes import quantities

SHARED_MEMORY_PATH: Final = "/dev/shm"
_VOLUME: Final = "dynawatt-shm"
_GIB: Final = 2**30
_SHARED_PER_GPU: Final = 2 * _GIB
"""Where the template has none; vLLM's own manifests give as much."""
_LEAST_SHARED: Final = 1 * _GIB
_LEAST_MEMORY: Final = 8 * _GIB
_LEAST_MEMORY_PER_GPU: Final = 4 * _GIB
"""An estimate of what vLLM's processes hold whatever they serve: API server and engine, then context and pinned
buffers of each worker. Weights pass through the page cache, which gives way."""


class Growth(NamedTuple):
    """From the template's GPUs to a shape's."""

    before: int
    after: int

    def scale(self, amount: Fraction, least: int) -> Fraction:
        """In proportion, but not below what is needed at least; never more than the template had when it shrinks."""
        return max(amount * self.after / self.before, min(amount, Fraction(least)))


def scaled_resources(resources: Mapping[str, Any], growth: Growth) -> dict[str, Any]:
    """Requests and limits with CPU and memory in proportion; all else is kept."""
    changed = dict(resources)
    for kind in ("requests", "limits"):
        if kind in resources:
            changed[kind] = {name: _scaled(name, amount, growth) for name, amount in resources[kind].items()}
    return changed


def with_shared_memory(
    pod_spec: Mapping[str, Any], container: Mapping[str, Any], growth: Growth
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Pod spec and container with /dev/shm in proportion, which the processes of a replica exchange tensors through.

    Where a single GPU did without and the shape has several, a volume is added: a container's own 64 MiB are too few.
    """
    mounts = container.get("volumeMounts") or []
    volumes = pod_spec.get("volumes") or []
    mounted = next((mount["name"] for mount in mounts if mount["mountPath"].rstrip("/") == SHARED_MEMORY_PATH), None)
    if mounted is not None:
        changed = [_grown(volume, growth) if volume["name"] == mounted else volume for volume in volumes]
        return {**pod_spec, "volumes": changed}, dict(container)
    if growth.after == 1 or pod_spec.get("hostIPC"):
        return dict(pod_spec), dict(container)
    size = quantities.memory(Fraction(growth.after * _SHARED_PER_GPU), "Gi")
    volume = {"name": _VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    mount = {"name": _VOLUME, "mountPath": SHARED_MEMORY_PATH}
    return {**pod_spec, "volumes": [*volumes, volume]}, {**container, "volumeMounts": [*mounts, mount]}


def _scaled(name: str, amount: str, growth: Growth) -> str:
    if name == "cpu":
        # Cores of an engine, an API server and one worker per GPU, as two hyper-threads each (vLLM, Optimization and
        # Tuning: CPU Resources for GPU Deployments).
        return quantities.cores(growth.scale(quantities.amount(amount), 2 * (2 + growth.after)))
    if name == "memory":
        least = _LEAST_MEMORY + growth.after * _LEAST_MEMORY_PER_GPU
        return quantities.memory(growth.scale(quantities.amount(amount), least), amount)
    return amount


def _grown(volume: Mapping[str, Any], growth: Growth) -> dict[str, Any]:
    source = volume.get("emptyDir") or {}
    size = source.get("sizeLimit")
    if source.get("medium") != "Memory" or size is None:
        return dict(volume)
    grown = quantities.memory(growth.scale(quantities.amount(size), _LEAST_SHARED), size)
    return {**volume, "emptyDir": {**source, "sizeLimit": grown}}
