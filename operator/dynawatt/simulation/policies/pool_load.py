"""What a pool's load was and will be, as our policies see it: counts of requests, and a forecast made of them.

Requests count by the work of their class, in mean requests of the pool, so that the forecast follows the mix as well
as the rate.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError
from dynawatt.forecast.rate import RateForecast
from dynawatt.forecast.slots import HORIZON_SLOTS, SLOT_S
from dynawatt.planning.demand import DemandForecast, demand_ahead
from dynawatt.simulation.policies.swings import swing_within_slots
from dynawatt.simulation.study import Foresight, Study
from dynawatt.simulation.tally import Tally

_PRESENT_S: Final = 60.0
"""Over so long the present rate is measured."""
_CHANCE: Final = 2.0
"""Standard deviations of the count of that time that may be a burst."""


@dataclass(slots=True, eq=False)
class PoolLoad:
    """Learns from the requests that arrive; one object is for one run.

    Raises InvalidInputError when the load is to be known beforehand but the study does not hold it.
    """

    study: Study
    classes: Sequence[int]
    _members: list[int] = field(init=False)
    _weights: NDArray[np.float64] = field(init=False)
    """Of each member, in mean requests."""
    _forecast: RateForecast = field(init=False)
    _dispersion: float = field(init=False)
    """Variance over mean of the counts of any span, in mean requests: what bursts and lengths do, as surfaces know."""
    _swing: float = 1.0
    """Of the load within slots; known as its burstiness is."""
    _seen: float = 0.0
    _seen_s: float = 0.0
    _lately: deque[tuple[float, float]] = field(default_factory=deque)
    """Times and mean requests so far."""

    def __post_init__(self) -> None:
        """Learn from the week before, if there is one."""
        if self.study.knobs.foresight is Foresight.PERFECT and self.study.future is None:
            raise InvalidInputError("perfect forecast: the study holds no future load; count the load first")
        self._members = list(self.classes)
        by_class = self.study.weights(self._members)
        self._weights = by_class[self._members]
        lengths = float(np.average((self._weights - 1) ** 2, weights=self.study.class_shares[self._members]))
        self._dispersion = self.study.cv_of(self._members) ** 2 + lengths
        self._forecast = RateForecast(self.study.calendar)
        self._lately.append((0.0, 0.0))
        if self.study.busiest is not None:
            busiest = self.study.busiest
            classes = self.study.classes.of(busiest.input_tokens, busiest.output_tokens)
            weights = by_class[classes]
            self._swing = swing_within_slots(busiest.arrival_s[weights > 0], self.study.cv, weights[weights > 0])
        history = self.study.history
        if history is not None and self.study.knobs.foresight is not Foresight.COLD:
            self._forecast.learn(history.start_s, self._weighed(history.requests))

    def observe(self, now_s: float, tally: Tally) -> None:
        """Count what arrived since the last call."""
        seen = float(self._weighed(tally.requests))
        if now_s > self._seen_s:
            self._forecast.observe(self._seen_s, seen - self._seen, now_s - self._seen_s)
        self._seen, self._seen_s = seen, now_s
        self._lately.append((now_s, seen))
        while now_s - self._lately[1][0] >= _PRESENT_S:
            self._lately.popleft()

    def present_rps(self) -> float:
        """Mean over the last minute; 0 before anything was seen."""
        (first_s, first), (last_s, last) = self._lately[0], self._lately[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def sustained_rps(self) -> float:
        """The least rate that the last minute's requests may have come from, were as many as they by chance.

        The count of n expected requests has the standard deviation sqrt(dispersion n): bursts alone bring much more
        than was expected, now and then, and are over before a replica could start.
        """
        span_s = self._lately[-1][0] - self._lately[0][0]
        if span_s <= 0:
            return 0.0
        # present = rate + 2 half sqrt(rate), solved for the rate.
        half = _CHANCE / 2 * sqrt(self._dispersion / span_s)
        return (sqrt(self.present_rps() + half**2) - half) ** 2

    def busiest_rps(self) -> float:
        """What the next minute may bring: the present rate, as much higher as the load is known to swing."""
        return self._swing * self.present_rps()

    def demand(self, now_s: float) -> DemandForecast | None:
        """From now on; None while nothing is known."""
        if self.study.knobs.foresight is Foresight.PERFECT and self.study.future is not None:
            coming_rps = self._coming_rps(now_s, self.study.future.requests)
            found: DemandForecast | None = DemandForecast(coming_rps, coming_rps)
        else:
            found = demand_ahead(self._forecast, now_s, self._dispersion)
        if found is None:
            return None
        # Replicas must be ready for the busiest minutes of a slot, not for its mean; and a load that is to fall within
        # the present slot is still there.
        high_rps = self._swing * found.high_rps
        high_rps[0] = max(high_rps[0], self.sustained_rps())
        return replace(found, high_rps=high_rps)

    def _weighed(self, requests: NDArray[np.integer] | NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean requests, [...], from requests by class, [..., class]."""
        return np.asarray(requests[..., self._members] @ self._weights, np.float64)

    def _coming_rps(self, now_s: float, requests: NDArray[np.float64]) -> NDArray[np.float64]:
        """What will come, slot by slot; the last slot stands for all after the end."""
        slots = np.minimum(int(now_s // SLOT_S) + np.arange(HORIZON_SLOTS), len(requests) - 1)
        return self._weighed(requests[slots]) / SLOT_S
