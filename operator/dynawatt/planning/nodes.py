"""GPUs of nodes: what can be started where. A replica never spans nodes."""

from collections.abc import Iterable, Sequence


def places(free_gpus: Sequence[int], gpus: int) -> int:
    """How many replicas of so many GPUs have room side by side."""
    return sum(max(0, free) // gpus for free in free_gpus)


def all_fit(sizes: Iterable[int], free_gpus: Sequence[int]) -> bool:
    """Whether replicas of these numbers of GPUs have room at once: the largest first, each where least is left over.

    Where each size divides the next larger one, as powers of two do, no other order does better.
    """
    free = list(free_gpus)
    for size in sorted(sizes, reverse=True):
        fitting = [node for node, gpus in enumerate(free) if gpus >= size]
        if not fitting:
            return False
        free[min(fitting, key=free.__getitem__)] -= size
    return True
