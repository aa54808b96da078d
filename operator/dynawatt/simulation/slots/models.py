"""What the pools of a policy know of each shape: its surface under their mix, and what other requests weigh."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.slots.settling import Settling
from dynawatt.simulation.slots.tables import SurfaceTable
from dynawatt.simulation.study import Study
from dynawatt.workload.classes import ALL_CLASSES


class PoolShape(NamedTuple):
    """A shape in a pool."""

    table: SurfaceTable
    """Under the load of the pool's own classes, or of the whole mix."""
    weights: NDArray[np.float64]
    """What a request of each class counts, as part of one of that mix; [class]."""


@dataclass(frozen=True, slots=True, eq=False)
class PoolModels:
    """Made when they are first asked for."""

    study: Study
    shapes: Sequence[ReplicaShape]
    pool_classes: Sequence[tuple[int, ...]]
    """The classes that each pool is there for."""
    _known: dict[tuple[tuple[int, ...], int], PoolShape] = field(default_factory=dict)
    _settling: dict[int, Settling] = field(default_factory=dict)

    def of(self, pool: int, shape: int, arrived: NDArray[np.float64] | None = None) -> PoolShape:
        """A shape, by its position, in a pool that is given these requests of each class.

        Where most of the work is not of the pool's own classes, because others spill over, the whole mix is nearer.
        """
        own = self.pool_classes[pool]
        found = self._of(own, shape)
        if arrived is None or not arrived.any():
            return found
        work = arrived * found.weights
        return found if 2 * work[list(own)].sum() >= work.sum() else self._of(ALL_CLASSES, shape)

    def settling(self, pool: int) -> Settling:
        """Where governors settle under the load of a pool."""
        if pool not in self._settling:
            classes = self.pool_classes[pool]
            self._settling[pool] = Settling(self.study.mix_of(classes).input_tokens, self.study.cv_of(classes))
        return self._settling[pool]

    def _of(self, classes: tuple[int, ...], shape: int) -> PoolShape:
        if (classes, shape) not in self._known:
            what = self.shapes[shape]
            table = SurfaceTable(self.study.surface(what, classes), self.study.question(what, classes))
            self._known[classes, shape] = PoolShape(table, self._weights(what, classes))
        return self._known[classes, shape]

    def _weights(self, shape: ReplicaShape, classes: Sequence[int]) -> NDArray[np.float64]:
        """By the work of the mean request of these classes; 1 where nothing is known of a class."""
        work_s = self.study.work(shape)
        own = self.study.class_shares[list(classes)]
        mean_s = float(own @ work_s[list(classes)]) / float(own.sum())
        return np.where(work_s > 0, work_s / mean_s, 1.0)
