"""GPUs of nodes: what can be started where. A replica never spans nodes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

_Node = TypeVar("_Node")


def places(free_gpus: Sequence[int], gpus: int) -> int:
    """How many replicas of so many GPUs have room side by side."""
    return sum(max(0, free) // gpus for free in free_gpus)


def all_fit(sizes: Iterable[int], free_gpus: Sequence[int]) -> bool:
    """Whether replicas of these numbers of GPUs have room at once: the largest first, each where least is left over.

    Where each size divides the next larger one, as powers of two do, no other order does better.
    """
    free = dict(enumerate(free_gpus))
    return all(_placed(size, free) for size in sorted(sizes, reverse=True))


def left_over(sizes: Iterable[int], free_gpus: Mapping[_Node, int]) -> dict[_Node, int]:
    """Free GPUs by node beside replicas that are placed likewise, without those that have no room."""
    free = dict(free_gpus)
    for size in sorted(sizes, reverse=True):
        _placed(size, free)
    return free


def _placed(size: int, free: dict[_Node, int]) -> bool:
    """Take GPUs of one node, if any has so many."""
    fitting = [node for node, gpus in free.items() if gpus >= size]
    if fitting:
        free[min(fitting, key=free.__getitem__)] -= size
    return bool(fitting)
