"""Least squares without negative coefficients."""

import numpy as np

from dynawatt.perfmodel.clocked import Numbers


def nonnegative_least_squares(columns: Numbers, values: Numbers) -> Numbers:
    """The coefficients, none negative, with the least squared error of ``columns @ coefficients``.

    Args:
        columns: [values, coefficients].
        values: what to fit.
    """
    # SciPy takes longer to import than most commands take to run, and few of them fit anything.
    from scipy.optimize import nnls  # noqa: PLC0415

    coefficients, _ = nnls(columns, values)
    return np.asarray(coefficients)
