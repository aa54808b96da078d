"""DynamoLLM's slow managers: how many servers each pool gets, and how each pool splits them.

The cluster manager looks at epochs of half an hour, and has what the next one needs
started before it begins. Pool managers look every five minutes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import numpy as np

from dynawatt.simulation.policies.pools import Numbers
from dynawatt.simulation.policies.pools_layout import PoolLayout
from dynawatt.simulation.policies.pools_split import SplitRules, cheapest_split
from dynawatt.simulation.policies.pools_steps import Fleet

EPOCH_S: Final = 1800.0
SPLIT_S: Final = 300.0

PeakLoads = Callable[[float, float], Numbers]
"""Peak work per second by predicted class, between two times."""


@dataclass(slots=True, eq=False)
class ClusterManager:
    """Sizes pools in replicas of the first shape."""

    size: Callable[[Numbers, Sequence[int] | None], Sequence[int]]
    """By pool, for peak work per second by predicted class, and for the sizes of the epoch before if there was one."""
    startup_s: float
    _sizes: dict[int, Sequence[int]] = field(default_factory=dict)
    """By epoch; what was decided for one stays."""

    def forget(self) -> None:
        """Begin anew at time 0."""
        self._sizes.clear()

    def sizes(self, now_s: float, peak_loads: PeakLoads) -> list[int]:
        """Replicas by pool: those of this epoch, and already what the next one needs once it is a start-up away."""
        ahead_s = ceil(self.startup_s / SPLIT_S) * SPLIT_S
        epochs = sorted({int(now_s // EPOCH_S), int((now_s + ahead_s) // EPOCH_S)})
        for epoch in epochs:
            if epoch not in self._sizes:
                loads = peak_loads(epoch * EPOCH_S, (epoch + 1) * EPOCH_S)
                self._sizes[epoch] = self.size(loads, self._sizes.get(epoch - 1))
        return [max(counts) for counts in zip(*(self._sizes[epoch] for epoch in epochs), strict=True)]


@dataclass(slots=True, eq=False)
class PoolManagers:
    """Split the GPUs of every pool among shapes, staggered: one pool at a time, unless a pool has to change."""

    layout: PoolLayout
    rules: SplitRules
    _turn: int = 0
    """The pool that may change next."""

    def forget(self) -> None:
        """Begin anew."""
        self._turn = 0

    def split(self, sizes: Sequence[int], loads: Numbers, serving: Fleet) -> Fleet:
        """The fleet to get to.

        Args:
            sizes: Replicas of the first shape that each pool has the GPUs of.
            loads: Peak work per second by predicted class, until splits that are decided later have come about.
            serving: Replicas that there are.
        """
        pools = len(self.layout.pools)
        largest = {self.layout.group(row, 0): count for row, count in enumerate(sizes)}
        offered = self.layout.spill(loads, Counter(largest)).loads
        wanted: Fleet = Counter()
        turn_taken = False
        for row in sorted(range(pools), key=lambda row: (row - self._turn) % pools):
            standing = self.layout.counts(row, serving)
            counts = self._best(row, sizes[row], offered[row], standing)
            if counts != standing and self._may_stay(row, sizes[row], offered[row], serving):
                if turn_taken:
                    counts = standing
                else:
                    turn_taken, self._turn = True, (row + 1) % pools
            wanted.update({self.layout.group(row, shape): count for shape, count in enumerate(counts) if count})
        return wanted

    def _best(self, row: int, size: int, offered: Numbers, standing: Sequence[int]) -> list[int]:
        gpus = size * self.layout.gpus[0]
        found = cheapest_split(self.layout.profiles(row, offered), float(offered.sum()), gpus, standing, self.rules)
        return list(found.replicas) if found else [size, *[0] * (len(standing) - 1)]

    def _may_stay(self, row: int, size: int, offered: Numbers, serving: Fleet) -> bool:
        """Whether what serves carries the load on the GPUs that the pool has."""
        standing = self.layout.counts(row, serving)
        held = float(np.dot(standing, self.layout.gpus))
        given = size * self.layout.gpus[0]
        fits = held == given if self.rules.all_gpus else held <= given
        return fits and self.layout.capacity(row, offered, serving) >= offered.sum()
