"""Which nodes have how many GPUs, and how many of them no pod holds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.kubernetes.mirror import gpu_count

PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
_RESOURCE: Final = "nvidia.com/gpu"
_ENDED: Final = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class NodeGpus:
    """One node that takes pods."""

    name: str
    product: str
    labels: Mapping[str, str]
    gpus: int
    free: int

    def admits(self, selector: Mapping[str, str]) -> bool:
        """Whether a pod with this node selector may run here."""
        return selector.items() <= self.labels.items()


@dataclass(frozen=True, slots=True)
class Inventory:
    """All nodes with GPUs that take pods now."""

    nodes: Sequence[NodeGpus]
    products: Mapping[str, str]
    """GPU product by the name of any node, those included that take no pods."""

    def free(self, product: str, selector: Mapping[str, str]) -> list[int]:
        """GPUs of a product that no pod holds, by node."""
        return [node.free for node in self.nodes if node.product == product and node.admits(selector)]

    def largest(self, product: str, selector: Mapping[str, str]) -> int:
        """Most GPUs of a product on one node."""
        return max((node.gpus for node in self.nodes if node.product == product and node.admits(selector)), default=0)


class Inventories:
    """The inventory of what was read last: with hundreds of services it is asked for more often than it changes."""

    def __init__(self) -> None:
        self._nodes: Sequence[KubernetesObject] | None = None
        self._pods: Sequence[KubernetesObject] | None = None
        self._held: Mapping[str, int] = {}
        self._found = Inventory([], {})

    def of(self, nodes: Sequence[KubernetesObject], pods: Sequence[KubernetesObject]) -> Inventory:
        """``take_inventory``, but the same lists are counted once."""
        if self._pods is not pods:
            self._held = _held(pods)
        if self._pods is not pods or self._nodes is not nodes:
            self._found = _inventory(nodes, self._held)
        self._nodes, self._pods = nodes, pods
        return self._found


def take_inventory(nodes: Sequence[KubernetesObject], pods: Sequence[KubernetesObject]) -> Inventory:
    """Count. A pod that waits for its node holds nothing yet, one that is stopping still does."""
    return _inventory(nodes, _held(pods))


def _held(pods: Sequence[KubernetesObject]) -> Mapping[str, int]:
    """GPUs that pods hold, by node."""
    held: Counter[str] = Counter()
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and pod["status"].get("phase") not in _ENDED:
            held[node] += gpu_count(pod["spec"])
    return held


def _inventory(nodes: Sequence[KubernetesObject], held: Mapping[str, int]) -> Inventory:
    found, products = [], {}
    for node in nodes:
        name = node["metadata"]["name"]
        labels = node["metadata"].get("labels") or {}
        products[name] = labels.get(PRODUCT_LABEL, "")
        if _takes_pods(node):
            gpus = int(node["status"]["allocatable"].get(_RESOURCE, 0))
            found.append(NodeGpus(name, products[name], labels, gpus, max(0, gpus - held.get(name, 0))))
    return Inventory(found, products)


def _takes_pods(node: KubernetesObject) -> bool:
    conditions: Sequence[Mapping[str, Any]] = node["status"]["conditions"]
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return is_ready and not node["spec"].get("unschedulable", False)
