"""Which nodes have how many GPUs, how many of them no pod holds, and which of them a service's pods may use."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.kubernetes.mirror import gpu_count
from dynawatt.api.gpunode import GPUNodeStatus
from dynawatt.controller.clock_ability import Reports
from dynawatt.controller.shapes.gpus import PRODUCT_LABEL
from dynawatt.controller.shapes.schedulable import Place, PodNeeds, Toleration, obstacle, place_of, pod_needs
from dynawatt.controller.target import Workload

_RESOURCE: Final = "nvidia.com/gpu"
_ENDED: Final = ("Succeeded", "Failed")
_MOST_NEEDS: Final = 1024
"""Kept: services of one kind have equal needs."""


@dataclass(frozen=True, slots=True)
class NodeGpus:
    """One node, whether it takes pods now or not."""

    place: Place
    product: str
    gpus: int
    free: int

    @property
    def name(self) -> str:
        """Of the node."""
        return self.place.name


@dataclass(frozen=True, slots=True)
class Inventory:
    """All nodes with GPUs."""

    nodes: Sequence[NodeGpus]
    products: Mapping[str, str]
    """GPU product by the name of the node."""
    reports: Mapping[str, GPUNodeStatus] = field(default_factory=dict)
    """What agents report, by the name of their node."""
    judged: dict[PodNeeds, "_Judged"] = field(default_factory=dict, compare=False, repr=False)
    """What was found before for nodes like these."""

    def needs(self, workloads: Sequence[Workload]) -> PodNeeds:
        """What the pods of a service ask of nodes, by the template of its first Deployment.

        Clusters may add a toleration of the GPUs' own taint to every pod that asks for GPUs (the admission plug-in
        ExtendedResourceToleration), which stands in no template: then pods of the service run on such nodes.
        """
        needs = pod_needs(workloads[0].deployment["spec"]["template"]["spec"])
        tainted = {node.name for node in self.nodes if any(taint.key == _RESOURCE for taint in node.place.taints)}
        if tainted and any(pod["spec"].get("nodeName") in tainted for one in workloads for pod in one.pods):
            return needs._replace(tolerations=(*needs.tolerations, Toleration(_RESOURCE, "Exists")))
        return needs

    def obstacles(self, needs: PodNeeds) -> Sequence[str]:
        """Why each of the nodes takes no pods with such needs; empty where it does."""
        return self._judge(needs).obstacles

    def usable(self, product: str, needs: PodNeeds) -> frozenset[str]:
        """The nodes of a product that take pods with such needs, by name."""
        return self._judge(needs).usable.get(product, frozenset())

    def largest(self, product: str, needs: PodNeeds) -> int:
        """Most GPUs on one of these nodes."""
        usable = self.usable(product, needs)
        return max((node.gpus for node in self.nodes if node.name in usable), default=0)

    def free(self, product: str) -> dict[str, int]:
        """GPUs of a product that no pod holds, by the nodes that take pods."""
        return {node.name: node.free for node in self.nodes if node.product == product and not node.place.closed}

    def _judge(self, needs: PodNeeds) -> "_Judged":
        if needs not in self.judged:
            if len(self.judged) >= _MOST_NEEDS:
                self.judged.clear()
            obstacles = [obstacle(needs, node.place) for node in self.nodes]
            usable: dict[str, set[str]] = defaultdict(set)
            for node, why in zip(self.nodes, obstacles, strict=True):
                if not why:
                    usable[node.product].add(node.name)
            self.judged[needs] = _Judged(obstacles, {product: frozenset(names) for product, names in usable.items()})
        return self.judged[needs]


class _Judged(NamedTuple):
    """Nodes, for pods with equal needs."""

    obstacles: Sequence[str]
    usable: Mapping[str, frozenset[str]]
    """By product."""


class Inventories:
    """The inventory of what was read last: with hundreds of services it is asked for more often than it changes."""

    def __init__(self) -> None:
        self._seen: tuple[Sequence[KubernetesObject] | None, ...] = (None, None, None)
        self._held: Mapping[str, int] = {}
        self._places: Sequence[Place] = ()
        self._judged: dict[PodNeeds, _Judged] = {}
        self._reports = Reports()
        self._found = Inventory([], {})

    def of(
        self,
        nodes: Sequence[KubernetesObject],
        pods: Sequence[KubernetesObject],
        gpunodes: Sequence[KubernetesObject] = (),
    ) -> Inventory:
        """``take_inventory`` with what agents report, but the same lists are counted once."""
        gpunodes = gpunodes or ()  # of which a new one is told while there are none
        if self._seen[0] is nodes and self._seen[1] is pods and self._seen[2] is gpunodes:
            return self._found
        if self._seen[0] is not nodes:
            before, self._places = self._places, [place_of(node) for node in nodes]
            if self._places != before:  # nodes report often, and mostly nothing that matters here
                self._judged = {}
        if self._seen[1] is not pods:
            self._held = _held(pods)
        reports = self._reports.of(gpunodes)
        self._found = replace(_inventory(nodes, self._places, self._held), reports=reports, judged=self._judged)
        self._seen = nodes, pods, gpunodes
        return self._found


def take_inventory(nodes: Sequence[KubernetesObject], pods: Sequence[KubernetesObject]) -> Inventory:
    """Count. A pod that waits for its node holds nothing yet, one that is stopping still does."""
    return _inventory(nodes, [place_of(node) for node in nodes], _held(pods))


def _held(pods: Sequence[KubernetesObject]) -> Mapping[str, int]:
    """GPUs that pods hold, by node."""
    held: Counter[str] = Counter()
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if node and pod["status"].get("phase") not in _ENDED:
            held[node] += gpu_count(pod["spec"])
    return held


def _inventory(nodes: Sequence[KubernetesObject], places: Sequence[Place], held: Mapping[str, int]) -> Inventory:
    found = []
    for node, place in zip(nodes, places, strict=True):
        gpus = int(node["status"]["allocatable"].get(_RESOURCE, 0))
        found.append(NodeGpus(place, place.labels.get(PRODUCT_LABEL, ""), gpus, max(0, gpus - held.get(place.name, 0))))
    return Inventory(found, {node.name: node.product for node in found})
