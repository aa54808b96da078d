"""Broken lines through measured points: what the profile stores, and how it is fitted."""

import itertools
from collections.abc import Sequence

import numpy as np

from dynawatt.perfmodel.clocked import Numbers
from dynawatt.perfmodel.nonnegative import nonnegative_least_squares


def samples_between(knots: Sequence[int]) -> tuple[int, ...]:
    """The knots, and the whole numbers at a quarter, half and three quarters of the way between neighbours."""
    between = (
        low + (high - low) * quarters // 4 for low, high in itertools.pairwise(knots) for quarters in (0, 1, 2, 3)
    )
    return tuple(sorted({*between, knots[-1]}))


def fit_broken_line(points: Sequence[int], values: Numbers, knots: Sequence[int]) -> Numbers:
    """Values at the knots of the non-negative broken line with the least squared relative error at the points.

    Args:
        points: ascending, the knots among them.
        values: at the points, none negative.
        knots: ascending.
    """
    # Hat functions: 1 at their own knot, 0 at all others, straight in between.
    hats = np.stack([np.interp(points, knots, row) for row in np.eye(len(knots))], axis=1)
    weights = 1 / np.maximum(values, 1e-12 + 1e-3 * float(np.max(values)))
    fitted = nonnegative_least_squares(hats * weights[:, None], values * weights)
    return np.asarray(fitted)
