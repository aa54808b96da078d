"""What simulated hardware keeps while the simulator's process is replaced: energy counters, locks, who holds what."""

import json
import logging
import os
from pathlib import Path
from typing import Any, Final, TypedDict

from dynawatt.ports import PodKey
from dynawatt.sandbox.nodesim.gpus import loaded_idle
from dynawatt.sandbox.nodesim.nodes import Allocation, SimulatedNode

_log = logging.getLogger(__name__)


class _GpuState(TypedDict):
    energyJ: float
    lockedMhz: list[int] | None


class _PodState(TypedDict):
    namespace: str
    name: str
    gpus: list[str]


class HardwareState:
    """A JSON file, replaced as a whole; one that cannot be read counts as absent."""

    def __init__(self, directory: Path) -> None:
        self._file: Final = directory / "gpus.json"
        self._gpus: dict[str, _GpuState] = {}
        self._pods: dict[str, _PodState] = {}
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            self._gpus, self._pods = content["gpus"], content["pods"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s cannot be read, all GPUs start anew: %s", self._file, error)

    def restore(self, node: SimulatedNode, now_s: float) -> None:
        """Give a new node what it had."""
        by_uuid = {gpu.uuid: gpu for gpu in node.gpus}
        for uuid, gpu in by_uuid.items():
            saved = self._gpus.get(uuid)
            if saved is None:
                continue
            gpu.add_energy(saved["energyJ"])
            if saved["lockedMhz"] is not None:
                gpu.lock(now_s, *saved["lockedMhz"])
        for uid, pod in self._pods.items():
            if all(uuid in by_uuid for uuid in pod["gpus"]):
                held = [by_uuid[uuid] for uuid in pod["gpus"]]
                node.allocations[uid] = Allocation(PodKey(pod["namespace"], pod["name"]), held)
                for gpu in held:
                    gpu.hold(now_s, loaded_idle(node.spec))

    def save(self, nodes: list[SimulatedNode], now_s: float) -> None:
        """Write what all nodes have now."""
        content: dict[str, Any] = {
            "gpus": {
                gpu.uuid: _GpuState(
                    energyJ=gpu.read(now_s).energy_j, lockedMhz=list(gpu.locked_mhz) if gpu.locked_mhz else None
                )
                for node in nodes
                for gpu in node.gpus
            },
            "pods": {
                uid: _PodState(namespace=held.pod.namespace, name=held.pod.name, gpus=[gpu.uuid for gpu in held.gpus])
                for node in nodes
                for uid, held in node.allocations.items()
            },
        }
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(content), encoding="utf-8")
        os.replace(partial, self._file)
