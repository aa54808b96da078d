"""Shares of pools in the requests of each class, checked, as turns that the compiled core keeps."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.core.state import CLASSES, Floats, Turns
from dynawatt.workload.classes import CLASS_NAMES

_TOLERANCE: Final = 1e-6
"""How far from 1 shares may sum up; then they are made to."""


def no_turns() -> Turns:
    """No shares are set."""
    return Turns(np.zeros((0, CLASSES)), np.zeros((0, CLASSES)))


def turns_with(shares: Floats, eligible: NDArray[np.bool_], before: Turns) -> Turns:
    """Turns with these shares from now on, [pool, class]. Raises InvalidInputError.

    What pools are owed is carried over, so that changing the shares often favours none.
    """
    shares = np.array(shares, np.float64, order="C")
    _check(shares, eligible)
    shares /= shares.sum(axis=0)
    owed = np.zeros_like(shares)
    if len(before.owed):
        owed = np.where(shares > 0, before.owed, 0.0)
        # What pools without a share were owed, or had too much of, those with one take over.
        owed -= shares * owed.sum(axis=0)
    return Turns(shares, owed)


def _check(shares: Floats, eligible: NDArray[np.bool_]) -> None:
    if shares.shape != eligible.shape:
        raise InvalidInputError(f"shares have the shape {shares.shape}: must be {eligible.shape}, [pool, class]")
    if not (shares >= 0).all():
        raise InvalidInputError(f"shares hold {shares.min()}: every share must be a number, 0 or more")
    sums = shares.sum(axis=0)
    wrong = np.flatnonzero(~(np.abs(sums - 1) <= _TOLERANCE))
    if len(wrong):
        raise InvalidInputError(
            f"shares of class {CLASS_NAMES[wrong[0]]} sum to {sums[wrong[0]]:g}: the pools together must get 1"
        )
    refused = np.argwhere((shares > 0) & ~eligible)
    if len(refused):
        pool, length_class = refused[0]
        raise InvalidInputError(
            f"pool {pool} has a share of {shares[pool, length_class]:g} of class {CLASS_NAMES[length_class]}: "
            "it may not serve that class, give it none"
        )
