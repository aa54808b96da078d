"""What a kubelet keeps while the simulator's process is replaced: which pod holds which GPUs.

Locks and energy counters are in the driver's files; see driver_bridge.py.
"""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypedDict

from dynawatt.ports import PodKey
from dynawatt.sandbox.nodesim.gpus import loaded_idle
from dynawatt.sandbox.nodesim.nodes import Allocation, SimulatedNode

_log = logging.getLogger(__name__)


class _PodState(TypedDict):
    namespace: str
    name: str
    gpus: list[str]


class AllocationState:
    """A JSON file, replaced as a whole; one that cannot be read counts as absent."""

    def __init__(self, directory: Path) -> None:
        self._file: Final = directory / "allocations.json"
        self._pods: dict[str, _PodState] = {}
        try:
            self._pods = json.loads(self._file.read_text(encoding="utf-8"))["pods"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s cannot be read, all GPUs are free: %s", self._file, error)

    def restore(self, node: SimulatedNode, now_s: float) -> None:
        """Give a new node what it had."""
        by_uuid = {gpu.uuid: gpu for gpu in node.gpus}
        for uid, pod in self._pods.items():
            if all(uuid in by_uuid for uuid in pod["gpus"]):
                held = [by_uuid[uuid] for uuid in pod["gpus"]]
                node.allocations[uid] = Allocation(PodKey(pod["namespace"], pod["name"]), held)
                for gpu in held:
                    gpu.hold(now_s, loaded_idle(node.spec))

    def save(self, nodes: Iterable[SimulatedNode]) -> None:
        """Write what the pods on all nodes hold now."""
        pods = {
            uid: _PodState(namespace=held.pod.namespace, name=held.pod.name, gpus=[gpu.uuid for gpu in held.gpus])
            for node in nodes
            for uid, held in node.allocations.items()
        }
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps({"pods": pods}), encoding="utf-8")
        os.replace(partial, self._file)
