"""Profile tables of pools: what replicas of each shape carry and draw, by clock and load.

DynamoLLM (HPCA 2025) interpolates between measured loads. A pool's requests may be of
several classes, so load is counted in work here: the replicas of the static fleets'
shape that would be busy all the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dynawatt.planning.curves import ShapeCurve
from dynawatt.simulation.policies.pools import Numbers, RequestPool

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class PoolProfile:
    """Replicas of one shape under the load of one pool."""

    gpus: int
    """Of one replica."""
    tuned: ShapeCurve
    """With all profiled clocks to choose from."""
    fixed: ShapeCurve
    """At the default clock alone."""
    weight: float
    """Work of a mean request."""
    mean_tokens: tuple[float, float]
    """Of a mean request: prompt and answer."""

    @property
    def most_replicas(self) -> int:
        """The largest fleet that can be asked for."""
        return self.tuned.most_replicas

    @property
    def startup_j(self) -> float:
        """What a start-up takes beyond what released GPUs draw."""
        return (self.fixed.starting_w - self.fixed.released_w) * self.fixed.startup_s

    def capacity(self, replicas: int) -> float:
        """Work that so many carry at the default clock."""
        return self.fixed.capacity_rps(min(replicas, self.most_replicas)) * self.weight

    def fewest(self, load: float) -> int:
        """Replicas that carry a load at the default clock; as many as can be asked for where none are enough."""
        capacities = self.fixed.capacities_rps[:, -1] * self.weight
        return min(int(np.searchsorted(capacities, load * (1 - 1e-9), side="left")), self.most_replicas)

    def most_filled(self, load: float) -> int:
        """The most replicas that a load fills entirely at the default clock."""
        capacities = self.fixed.capacities_rps[:, -1] * self.weight
        return int(np.searchsorted(capacities, load * (1 + 1e-9), side="right")) - 1

    def power_w(self, replicas: int, loads: Numbers, *, any_clock: bool) -> Numbers:
        """Watts beyond those of released GPUs, shaped as the loads; infinite beyond the capacity."""
        curve = self.tuned if any_clock else self.fixed
        return np.asarray(curve.power_w(replicas, loads / self.weight)) - replicas * curve.released_w

    def power_table(self, most: int, loads: Numbers, *, any_clock: bool) -> Numbers:
        """``power_w`` of all fleets from none to ``most`` replicas, [replicas, load]."""
        curve = self.tuned if any_clock else self.fixed
        return curve.power_table(loads / self.weight, most) - np.arange(most + 1)[:, None] * curve.released_w

    def load_of(self, tokens_per_s: tuple[float, float], work_per_token: tuple[float, float]) -> float:
        """Work per second that prompt and generated tokens are.

        What a token of either kind takes depends on the mix; how one compares with the other less so.
        """
        prompt, generated = work_per_token
        seen = prompt * tokens_per_s[0] + generated * tokens_per_s[1]
        mean = prompt * self.mean_tokens[0] + generated * self.mean_tokens[1]
        return seen / mean * self.weight

    def clock_mhz(self, replicas: int, load: float) -> int:
        """The clock with the fewest watts that carries a load; the default clock beyond all capacities."""
        return self.tuned.clock_mhz(replicas, load / self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class ProfileTables:
    """Profiles of all pools and shapes."""

    pools: Sequence[RequestPool]
    work: Numbers
    """By class: replica-seconds per request of the static fleets' shape."""
    own: Sequence[Sequence[PoolProfile | None]]
    """[pool][shape], under the pool's own classes; None where the shape carries nothing."""
    shared: Sequence[tuple[float, Sequence[PoolProfile | None]]]
    """(urgent part, by shape), ascending to 1: under the mix of all classes, but so strictly that the SLO holds even if
    this part of the requests were urgent."""
    objectives_s: Numbers
    """Of the first token, by class: that of its median request."""
    tolerated: float
    """Part of requests that may miss the SLO."""

    def of(self, row: int, shape: int, offered: Numbers) -> PoolProfile | None:
        """The profile of a pool's replicas, given what load of each class the pool is offered.

        Requests that spill over from a class with a shorter objective wait behind the pool's own long prefills, for
        which its own profile has no row. Where there are more of them than may miss the SLO, the profile of the whole
        mix holds. Otherwise it is that of the pool whose classes most of the load is of: a pool that takes in all
        others' is offered little of its own.
        """
        pool = self.pools[row]
        requests = np.divide(offered, self.work, out=np.zeros_like(offered), where=self.work > 0)
        urgent = self.objectives_s < self.objectives_s[pool.largest]
        others = urgent.copy()
        others[list(pool.classes)] = False
        if requests[others].sum() <= self.tolerated * requests.sum():
            parts = [offered[list(each.classes)].sum() for each in self.pools]
            return self.own[int(np.argmax(parts)) if offered.any() else row][shape]
        part = requests[urgent].sum() / requests.sum()
        return next(profiles[shape] for most, profiles in self.shared if part <= most + _ROUNDING)
