"""Room for more replicas of a service: on single nodes, within its own limit, and how to make some."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import inf
from typing import Final

from dynawatt.planning.nodes import places
from dynawatt.planning.replica_counts import ShapeCount

_TOLD: Final = 3
"""Reasons why nodes are closed, of which there may be as many as nodes."""


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """One node with GPUs as a service needs them."""

    name: str
    free_gpus: int
    """That no pod holds; a pod that is stopping holds its GPUs until it is gone."""
    leaving_gpus: int = 0
    """That stopping pods hold, of any service."""
    serving: Mapping[str, int] = field(default_factory=dict)
    """Ready pods of this service by Deployment. Where nobody knows, no room is made, but what is free is used."""
    closed: str = ""
    """Why replicas of the service may not start there, to be read after "it is"; empty where they may."""


@dataclass(frozen=True, slots=True)
class Emptying:
    """Replicas to drain so that one of another shape has room."""

    counts: Mapping[str, int]
    """How many, by Deployment."""
    node: str | None
    """Where they have to be; None where any will do."""


class Room:
    """What is left beside all replicas that are asked for, those without a node yet included.

    Args:
        shapes: All Deployments of the service.
        nodes: With such GPUs as its replicas run on.
        max_gpus: Most that the service may hold at any instant; None for no limit.
    """

    def __init__(self, shapes: Mapping[str, ShapeCount], nodes: Sequence[NodeRoom], max_gpus: int | None) -> None:
        """Replicas without a node get theirs as the scheduler would give it with packing: where least is left over."""
        waiting = sorted((shape.gpus for shape in shapes.values() for _ in range(shape.unplaced)), reverse=True)
        self._shapes = shapes
        self._nodes = _without([node for node in nodes if not node.closed], waiting)
        self._closed = [node for node in nodes if node.closed]
        held = sum(shape.gpus * shape.pods for shape in shapes.values())
        self._max_gpus = max_gpus
        self._left: float = inf if max_gpus is None else max_gpus - held
        self._leaving = sum(shape.gpus * shape.leaving for shape in shapes.values())

    def lack(self, gpus: int) -> str:
        """Why no replica of so many GPUs has room, in a clause."""
        if self._left < gpus:
            return f"each needs {gpus} GPUs, the limit of {self._max_gpus} for the service leaves {max(0, self._left)}"
        freest = max((node.free_gpus for node in self._nodes), default=0)
        closed = Counter(node.closed for node in self._closed if node.free_gpus >= gpus)
        told = [
            f"1 node has {gpus}, but is {why}" if count == 1 else f"{count} nodes have {gpus}, but are {why}"
            for why, count in closed.most_common(_TOLD)
        ]
        return "; ".join([f"each needs {gpus} free GPUs on one node, the freest has {freest}", *told])

    def replicas(self, gpus: int) -> int:
        """How many of so many GPUs each can be started now."""
        return int(max(0, min(places([node.free_gpus for node in self._nodes], gpus), self._left // gpus)))

    def comes(self, gpus: int) -> bool:
        """Whether one has room once all pods that are stopping are gone."""
        return any(node.free_gpus + node.leaving_gpus >= gpus for node in self._nodes) and (
            self._left + self._leaving >= gpus
        )

    def emptyings(self, gpus: int, surplus: Mapping[str, int]) -> Iterator[Emptying]:
        """All ways to make room for one of so many GPUs, without more drains than each needs.

        Args:
            gpus: Of the replica.
            surplus: How many Ready replicas may be given up, by Deployment.
        """
        beyond_limit = gpus - (self._left + self._leaving)
        if any(node.free_gpus + node.leaving_gpus >= gpus for node in self._nodes):
            for counts in self._drains(surplus, beyond_limit):
                yield Emptying(counts, None)
            return
        for node in self._nodes:
            there = {name: min(count, node.serving[name]) for name, count in surplus.items() if name in node.serving}
            missing = gpus - (node.free_gpus + node.leaving_gpus)
            for counts in self._drains(there, max(missing, beyond_limit)):
                yield Emptying(counts, node.name)

    def _drains(self, available: Mapping[str, int], gpus: float) -> Iterator[Mapping[str, int]]:
        """Numbers of replicas that hold at least so many GPUs, none of which could stay."""
        if not available or gpus <= 0:  # nothing to drain, or no need
            return
        sizes = {name: self._shapes[name].gpus for name, count in available.items() if count > 0}
        for drained in product(
            *(range(min(available[name], int(-(-gpus // size))) + 1) for name, size in sizes.items())
        ):
            counts = {name: count for name, count in zip(sizes, drained, strict=True) if count}
            spare = sum(sizes[name] * count for name, count in counts.items()) - gpus
            if spare >= 0 and all(sizes[name] > spare for name in counts):
                yield counts


def _without(nodes: Sequence[NodeRoom], sizes: Sequence[int]) -> list[NodeRoom]:
    """Nodes as they are once replicas of these sizes have been placed, as far as they have room."""
    left = list(nodes)
    for size in sizes:
        fitting = [index for index, node in enumerate(left) if node.free_gpus >= size]
        if fitting:
            index = min(fitting, key=lambda index: left[index].free_gpus)
            left[index] = replace(left[index], free_gpus=left[index].free_gpus - size)
    return left
