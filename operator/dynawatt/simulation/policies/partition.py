"""Whether requests of different lengths share replicas: decided by what each way would have drawn.

Short requests wait behind long prefills where a replica serves both; a pool of its
own for each has fewer replicas to share its load, and its size is rounded up on its
own. Which matters more depends on the mix, the size of the service and the queue
order, so every candidate is costed over the load of the week before.
"""

from collections.abc import Sequence
from math import inf
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.forecast.slots import SLOT_S
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policies.dynawatt_shapes import ShapeChoice, fewest_gpus, least_watts, shape_choices
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Study
from dynawatt.workload.classes import ALL_CLASSES

_LONG_INPUTS: Final = (6, 7, 8)
CANDIDATES: Final = ((ALL_CLASSES,), (tuple(c for c in ALL_CLASSES if c not in _LONG_INPUTS), _LONG_INPUTS))
"""Ways to split: not at all, or long inputs apart. Splits by output length would go by predictions."""
_RATES: Final = 40
"""Loads at which a partition is costed."""
_LEAST_SAVING: Final = 0.02
"""For less a split is not worth its complexity."""


def choose_pools(study: Study, order: QueueOrder) -> list[list[ShapeChoice]]:
    """The shapes of every pool of the best partition, one list per pool.

    Raises InvalidInputError when no shape meets the SLO for all classes together.
    """
    shared = [shape_choices(study, order)]
    best, best_w = shared, _mean_w(study, shared) * (1 - _LEAST_SAVING)
    for partition in CANDIDATES[1:]:
        if not all(study.class_shares[list(classes)].sum() > 0 for classes in partition):
            continue
        try:
            pools = [shape_choices(study, order, classes) for classes in partition]
        except InvalidInputError:
            continue  # a pool in which no shape meets the SLO
        found_w = _mean_w(study, pools)
        if found_w < best_w:
            best, best_w = pools, found_w
    return best


def _mean_w(study: Study, pools: Sequence[Sequence[ShapeChoice]]) -> float:
    """Mean watts over the loads of the week before, beyond an idle inventory.

    Infinite when the inventory does not hold all pools at the peak.
    """
    shares = [float(study.class_shares[list(choices[0].classes)].sum()) for choices in pools]
    gpus = sum(fewest_gpus(choices, share * study.peak_rps) for choices, share in zip(pools, shares, strict=True))
    if gpus > study.servers * GPUS_PER_SERVER:
        return inf
    total_rps = _loads_rps(study)
    grid_rps = np.linspace(0.0, float(total_rps.max()), _RATES)
    watts = sum(least_watts(choices, share * grid_rps) for choices, share in zip(pools, shares, strict=True))
    return float(np.interp(total_rps, grid_rps, watts).mean())


def _loads_rps(study: Study) -> NDArray[np.float64]:
    """By slot, but none above the peak that the inventory is there for; up to that peak where nothing is known."""
    if study.history is not None:
        seen_rps = study.history.requests.sum(axis=1) / SLOT_S
        if (known := np.isfinite(seen_rps)).any():
            return np.asarray(np.minimum(seen_rps[known], study.peak_rps))
    return np.linspace(0.3, 1.0, 8) * study.peak_rps
