"""Services that may use the same nodes, to be weighed against each other; groups of them are planned in turn.

Where no node is in two groups, nothing is lost by that. Where there are such nodes,
the groups with the fewest nodes choose first, because the others have elsewhere to
go, and what they start now is taken from what the others find free. Nothing is
promised twice, but the groups are not weighed against each other.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dynawatt.planning.service import ServiceState


@dataclass(frozen=True, slots=True)
class Group:
    """Services by name, and all nodes that they may use; None for all there are."""

    services: Sequence[str]
    nodes: frozenset[str] | None

    def free(self, free_gpus: Mapping[str, int]) -> dict[str, int]:
        """Of the GPUs by node those that it may use."""
        if self.nodes is None:
            return dict(free_gpus)
        return {name: gpus for name, gpus in free_gpus.items() if name in self.nodes}


def grouped(states: Mapping[str, ServiceState]) -> list[Group]:
    """All services, those with the fewest nodes first."""
    found: dict[frozenset[str] | None, list[str]] = defaultdict(list)
    for name, state in states.items():
        found[state.nodes].append(name)
    groups = [Group(names, nodes) for nodes, names in found.items()]
    return sorted(groups, key=lambda group: (group.nodes is None, len(group.nodes or ())))


def share_nodes(groups: Sequence[Group]) -> bool:
    """Whether any node is in two groups."""
    if len(groups) > 1 and any(group.nodes is None for group in groups):
        return True
    sets = [group.nodes for group in groups if group.nodes is not None]
    return len(frozenset().union(*sets)) < sum(map(len, sets))
