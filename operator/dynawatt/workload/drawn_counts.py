"""How many requests of a built-in workload come between points in time, without drawing the requests."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.workload.arrivals import first_gap, unit_renewal
from dynawatt.workload.builtin import BuiltInWorkload
from dynawatt.workload.trace import ScaleMode

_BLOCK: Final = 1 << 17


def drawn_counts(
    workload: BuiltInWorkload,
    edges_s: NDArray[np.float64],
    *,
    seed: int,
    rate_scale: float = 1.0,
    scale_mode: ScaleMode = ScaleMode.SUPERPOSE,
) -> NDArray[np.int64]:
    """Counts between consecutive edges, ascending from 0 on; distributed as those of ``workload.chunks``."""
    # In operational time, in which one request is expected per unit.
    edges = workload.expected_by(edges_s, rate_scale, scale_mode)
    rng = np.random.default_rng(seed)
    start = first_gap(workload.interarrival_cv, rng)
    reached = np.zeros(len(edges), np.int64)
    while start < edges[-1]:
        times = start + np.cumsum(unit_renewal(_BLOCK, workload.interarrival_cv, rng))
        start, times = float(times[-1]), np.concatenate([[start], times[:-1]])
        reached += np.searchsorted(times, edges)
    return np.diff(reached)
