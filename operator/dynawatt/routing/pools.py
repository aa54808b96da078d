"""Which pools may serve which length class: DynamoLLM's order of dominance (HPCA 2025).

A class dominates another one whose input and output are both no longer. What is
made for a class may serve all that it dominates: SL may go to ML or LL, never to LS.
A pool is there for a set of classes, and may serve what any of them dominates.
"""

from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.workload.classes import CLASS_NAMES

Classes: TypeAlias = Collection[int]
"""What a pool is there for: indices into CLASS_NAMES."""
_LENGTHS: Final = 3


def dominates(first: int, second: int) -> bool:
    """Whether what is made for the first class may serve the second; every class dominates itself."""
    return first // _LENGTHS >= second // _LENGTHS and first % _LENGTHS >= second % _LENGTHS


def eligibility(pools: Sequence[Classes]) -> NDArray[np.bool_]:
    """Which pools may serve which classes, [pool, class].

    Raises InvalidInputError for a pool that is there for no class, or for an unknown one.
    """
    for number, classes in enumerate(pools):
        unknown = [each for each in classes if not 0 <= each < len(CLASS_NAMES)]
        if unknown or not classes:
            raise InvalidInputError(
                f"pool {number} is for classes {sorted(classes)}: must be some of 0 to {len(CLASS_NAMES) - 1}"
            )
    served = [[any(dominates(own, each) for own in classes) for each in range(len(CLASS_NAMES))] for classes in pools]
    return np.array(served, np.bool_).reshape(len(pools), len(CLASS_NAMES))


def next_larger(pools: Sequence[Classes], pool: int) -> int | None:
    """The pool that takes over what is too much for another, or what is left of its load; None for the largest.

    Of the pools that may serve all that it serves and more, the one with the shortest inputs, which set the objective
    and hold others up; of these the one that serves the least more, and then the first.
    """
    served = eligibility(pools)
    more = [each for each in range(len(pools)) if (served[each] > served[pool]).any() and _covers(served, each, pool)]
    return min(more, key=lambda each: (_longest_input(served[each]), int(served[each].sum()), each), default=None)


def _covers(served: NDArray[np.bool_], first: int, second: int) -> bool:
    return bool((served[first] >= served[second]).all())


def _longest_input(classes: NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(classes).max()) // _LENGTHS
