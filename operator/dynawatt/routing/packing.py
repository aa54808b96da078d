"""How many replicas of a group get requests, so that the load costs the fewest watts.

A replica that serves little still runs its clock and its small batches. It is
cheaper to give all requests to as few replicas as the least watts ask for; the
others stay loaded, parked at the lowest clock, and are back at once. So opening
is free to be hasty and closing has to be slow.
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil, inf, isnan
from typing import Final, Protocol

from dynawatt.errors import InvalidInputError

_LOAD_STEPS: Final = 200
"""Loads are rounded up to such a part of the capacity, for which the fleet is asked only once."""


class PackedFleet(Protocol):
    """What is known of replicas that share a load evenly, as of ``planning.curves.ShapeCurve``."""

    def capacity_rps(self, replicas: int) -> float:
        """Most load that the whole fleet carries within its objectives."""
        ...

    def open_replicas(self, replicas: int, rate_rps: float) -> int:
        """How many of them are to serve for the fewest watts, the others parked."""
        ...


@dataclass(slots=True)
class Packing:
    """Decides for one group, step by step.

    Opens as many as the load or the queue asks for in the very step: a queue tells of a burst before the rate does.
    Closes only what no step of the last ``quiet_s`` asked for, were the load larger by ``margin``. So under a constant
    load it settles, and a load that moves to and fro by less than the margin does not move it.

    Raises InvalidInputError for settings out of range; no reading makes ``step`` raise.
    """

    fleet: PackedFleet
    """Must know fleets as large as will ever serve."""
    quiet_s: float = 120.0
    margin: float = 0.1
    """Part of the load that what is closed must leave to spare."""
    longest_queue: float = 8.0
    """Waiting requests that an open replica may have; for more another one opens."""
    _asked: deque[tuple[float, int]] = field(default_factory=deque)
    """(time, replicas) that steps ask for; what a later step outdoes is left out, so that the first asks for most."""
    _known: dict[tuple[int, int], int] = field(default_factory=dict)
    """Replicas wanted of those that serve, by load in steps of the capacity."""
    _open: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, value in (("quiet_s", self.quiet_s), ("margin", self.margin)):
            if not 0 <= value < inf:
                raise InvalidInputError(f"{name} {value} of packing: must be 0 or more")
        if not self.longest_queue > 0:
            raise InvalidInputError(f"longest_queue {self.longest_queue} of packing: must be above 0")

    def know(self, fleet: PackedFleet) -> None:
        """Go by other figures of the same fleet; what is open stays open."""
        self.fleet = fleet
        self._known.clear()

    def step(self, now_s: float, rate_rps: float, serving: int, waiting: int) -> int:
        """How many of the serving replicas are to be open from now on; at least one where any serves.

        Args:
            now_s: A clock that goes on. Where it went back, the quiet time begins anew.
            rate_rps: Arrivals of the group, a mean over some tens of seconds; what is not a number keeps things as
                they are, at first all open.
            serving: Replicas of the group that could be open.
            waiting: Requests that wait in their queues.
        """
        if serving < 1:
            return 0
        if self._asked and now_s < self._asked[-1][0]:
            self._asked = deque([(now_s, self._open)])
        least = spared = self._open or serving
        if not isnan(rate_rps):
            least = self._wanted(serving, rate_rps)
            spared = self._wanted(serving, rate_rps * (1 + self.margin))
        queued = min(ceil(waiting / self.longest_queue), serving)
        self._ask(now_s, max(least, queued, min(self._open, spared)))
        self._open = min(max(1, self._asked[0][1]), serving)
        return self._open

    def _wanted(self, serving: int, rate_rps: float) -> int:
        """Replicas for the fewest watts, but as many as carry the load."""
        capacity_rps = self.fleet.capacity_rps(serving)
        if not rate_rps < capacity_rps:
            return serving
        load_step = ceil(max(0.0, rate_rps) / capacity_rps * _LOAD_STEPS)
        if (serving, load_step) not in self._known:
            rate_rps = capacity_rps * load_step / _LOAD_STEPS
            carrying = (each for each in range(1, serving) if self.fleet.capacity_rps(each) >= rate_rps)
            wanted = max(next(carrying, serving), self.fleet.open_replicas(serving, rate_rps))
            self._known[serving, load_step] = wanted
        return self._known[serving, load_step]

    def _ask(self, now_s: float, replicas: int) -> None:
        """Note what a step asks for, and forget what is older than the quiet time."""
        while self._asked and self._asked[-1][1] <= replicas:
            self._asked.pop()
        self._asked.append((now_s, replicas))
        while self._asked[0][0] < now_s - self.quiet_s:
            self._asked.popleft()
