"""Where clock governors settle under a steady load: found by running one on random arrivals.

The governor is the live one, at one reading per second. Its pod is a queue of
prompts: it prefills them one after the other, as fast as the governor's table says
of the present clock, and decodes without delay. So the governor meets the bursts
and the small queues that make it run above the row that the mean load needs.

Of several replicas each gets the next request in turn, which is near to what
routing by the fewest outstanding requests does.
"""

from dataclasses import dataclass, field
from math import ceil, floor, log
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynawatt.governing.governor import ClockGovernor
from dynawatt.governing.reading import PodReading
from dynawatt.governing.table import ClockRow
from dynawatt.simulation.policy import Governed
from dynawatt.workload.arrivals import renewal_arrivals

_STEP: Final = 1.08
"""Between loads at which governors are run."""
_DURATION_S: Final = 900
_MOST_BURSTY: Final = 2.0
"""Governors of bursty loads are run for so many times as long at most, because bursts are few."""
_WARM_UP_S: Final = 150
"""A governor looks back for two minutes."""


class Settled(NamedTuple):
    """Mean clocks of a governed replica."""

    mhz: float
    """Over time."""
    working_mhz: float
    """Over its work: bursts are served at higher clocks."""


@dataclass(slots=True, eq=False)
class Settling:
    """Mean clocks of governed replicas of one shape.

    Args:
        prompt_tokens: Of requests, in any order.
        cv: Coefficient of variation of the gaps between the requests of all replicas together.
        seed: Of the arrivals.
    """

    prompt_tokens: NDArray[np.int64]
    cv: float
    seed: int = 1
    _known: dict[tuple[Governed, int, int], Settled] = field(default_factory=dict)

    def at(self, claim: Governed, offered_rps: float, replicas: int) -> Settled:
        """Clocks of each of several replicas that share a load, by what one of them is offered on average.

        ``offered_rps`` is in requests/s of the mix that the claim's table was made for.
        """
        rows = claim.table.within(claim.floor_mhz, claim.ceiling_mhz)
        if len(rows) == 1 or offered_rps > rows[-2].load_rps:
            return Settled(claim.ceiling_mhz, claim.ceiling_mhz)
        if offered_rps * _DURATION_S < 1:
            return Settled(claim.floor_mhz, claim.floor_mhz)
        place = log(offered_rps) / log(_STEP)
        below, above = (self._known_at(claim, step, replicas) for step in (floor(place), ceil(place)))
        share = place - floor(place)
        return Settled(*(low + share * (high - low) for low, high in zip(below, above, strict=True)))

    def _known_at(self, claim: Governed, step: int, replicas: int) -> Settled:
        key = (claim, step, replicas)
        if key not in self._known:
            self._known[key] = self._measured(claim, _STEP**step, replicas)
        return self._known[key]

    def _measured(self, claim: Governed, rate_rps: float, replicas: int) -> Settled:
        rng = np.random.default_rng(self.seed)
        span_s = _WARM_UP_S + round(_DURATION_S * min(max(1.0, self.cv**2), _MOST_BURSTY))
        total_rps = rate_rps * replicas
        arrival_s = renewal_arrivals(total_rps, self.cv, ceil(total_rps * span_s), rng)
        # The rate is exact: of a bursty process even a long draw may have another one.
        arrival_s *= len(arrival_s) / total_rps / arrival_s[-1]
        arrival_s = arrival_s[::replicas]
        tokens = rng.choice(self.prompt_tokens, len(arrival_s))
        pod = _Pod(arrival_s, tokens.astype(np.float64))
        governor = ClockGovernor(claim.table, claim.floor_mhz, claim.ceiling_mhz)
        prefill = _prefill_tokens_per_s(claim)
        clocks_mhz, tokens_done = np.empty(span_s), np.empty(span_s)
        for second in range(span_s):
            clocks_mhz[second] = clock_mhz = governor.step(float(second), pod.reading)
            tokens_done[second] = pod.work(float(second + 1), prefill[int(clock_mhz)])
        clocks_mhz, tokens_done = clocks_mhz[_WARM_UP_S:], tokens_done[_WARM_UP_S:]
        mean_mhz, done = float(clocks_mhz.mean()), float(tokens_done.sum())
        working_mhz = float(clocks_mhz @ tokens_done) / done if done > 0 else mean_mhz
        # Rounding may take a mean beyond what it is the mean of.
        return Settled(mean_mhz, float(np.clip(working_mhz, clocks_mhz.min(), clocks_mhz.max())))


def _prefill_tokens_per_s(claim: Governed) -> dict[int, float]:
    """By clock; the ceiling carries at least what the highest row below it does."""
    below = [row for row in claim.table.rows if row.clock_mhz <= claim.ceiling_mhz] or list(claim.table.rows[:1])

    def of(row: ClockRow) -> float:
        return min(row.prefill_tokens_per_s, below[-1].prefill_tokens_per_s)

    return {row.clock_mhz: of(row) for row in claim.table.within(claim.floor_mhz, claim.ceiling_mhz)}


class _Pod:
    """Prompts in order of arrival, and how far they have got."""

    def __init__(self, arrival_s: NDArray[np.float64], tokens: NDArray[np.float64]) -> None:
        self._arrival_s = arrival_s
        self._tokens = np.concatenate([[0.0], np.cumsum(tokens)])
        """Before each request."""
        self._now_s = 0.0
        self._done = 0.0
        """Tokens prefilled."""
        self.reading = self._read()

    def work(self, until_s: float, tokens_per_s: float) -> float:
        """Prefill what is there, up to a time; how many tokens that is."""
        begun = self._done
        first, last = np.searchsorted(self._arrival_s, (self._now_s, until_s))
        for time_s, before in zip(self._arrival_s[first:last].tolist(), self._tokens[first:last].tolist(), strict=True):
            self._done = min(before, self._done + (time_s - self._now_s) * tokens_per_s)
            self._now_s = time_s
        self._done = min(float(self._tokens[last]), self._done + (until_s - self._now_s) * tokens_per_s)
        self._now_s = until_s
        self.reading = self._read()
        return self._done - begun

    def _read(self) -> PodReading:
        arrived = int(np.searchsorted(self._arrival_s, self._now_s))
        begun = min(arrived, int(np.searchsorted(self._tokens, self._done)))
        ended = max(0, int(np.searchsorted(self._tokens, self._done, side="right")) - 1)
        prompts = float(self._tokens[ended])
        return PodReading(begun - ended, arrived - begun, 0.0, ended, ended, ended, ended, ended, prompts, ended)
