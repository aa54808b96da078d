"""A simulated GPU node: its GPUs and which pod holds which, as the kubelet's device manager keeps it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dynawatt.perfmodel.gpus import GpuSpec
from dynawatt.ports import PodKey
from dynawatt.sandbox.nodesim.gpus import SimulatedGpu, loaded_idle

GPU_RESOURCE: Final = "nvidia.com/gpu"
GPU_LABEL: Final = "dynawatt.dev/sandbox-gpu"

_UUID_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "sandbox.dynawatt.dev")


def gpu_uuid(node: str, index: int) -> str:
    """The same identity for the same slot in every run."""
    return f"GPU-{uuid.uuid5(_UUID_NAMESPACE, f'{node}/{index}')}"


def requested_gpus(pod_spec: Mapping[str, Any]) -> int:
    """GPUs that all containers of a pod ask for together."""
    return sum(
        int(container.get("resources", {}).get("limits", {}).get(GPU_RESOURCE, 0))
        for container in pod_spec.get("containers") or ()
    )


@dataclass(frozen=True, slots=True)
class Allocation:
    """The GPUs of one pod."""

    pod: PodKey
    gpus: Sequence[SimulatedGpu]


@dataclass(slots=True)
class SimulatedNode:
    """One node; allocations are keyed by pod uid, so that a reused name is a different pod."""

    name: str
    spec: GpuSpec
    gpus: list[SimulatedGpu]
    allocations: dict[str, Allocation] = field(default_factory=dict)

    @classmethod
    def create(cls, name: str, *, spec: GpuSpec, gpu_count: int, now_s: float) -> "SimulatedNode":
        """A node whose GPUs are all free and unlocked."""
        gpus = [SimulatedGpu(uuid=gpu_uuid(name, index), spec=spec, now_s=now_s) for index in range(gpu_count)]
        return cls(name, spec, gpus)

    def allocate(self, wanted: Mapping[str, tuple[PodKey, int]], now_s: float) -> bool:
        """Make allocations match the pods that exist (uid -> name, GPUs); True when anything changed.

        GPUs of vanished pods are freed first, and new pods get the lowest free ones. A pod that does not fit waits: the
        scheduler never sends one too many, but its predecessor's end may still be on its way here.
        """
        changed = False
        for uid in self.allocations.keys() - wanted.keys():
            for gpu in self.allocations.pop(uid).gpus:
                gpu.release(now_s)
            changed = True
        for uid, (pod, count) in wanted.items():
            free = self._free_gpus()
            if uid in self.allocations or not 0 < count <= len(free):
                continue
            self.allocations[uid] = Allocation(pod, free[:count])
            for gpu in free[:count]:
                gpu.hold(now_s, loaded_idle(self.spec))
            changed = True
        return changed

    def holder(self, gpu: SimulatedGpu) -> PodKey | None:
        """The pod that holds a GPU."""
        return next((held.pod for held in self.allocations.values() if gpu in held.gpus), None)

    def _free_gpus(self) -> list[SimulatedGpu]:
        held = {gpu.uuid for allocation in self.allocations.values() for gpu in allocation.gpus}
        return [gpu for gpu in self.gpus if gpu.uuid not in held]
