"""Collects pairs of periods from what is observed, and forgets them in time."""

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from dynawatt.accounting.switchback.estimate import FEWEST_PAIRS, Pair, SwitchbackSaving, estimate
from dynawatt.accounting.switchback.schedule import CARRY_OVER_S, PERIOD_S, Schedule
from dynawatt.errors import InvalidInputError

_MOST_PAIRS: Final = 500
"""Kept: three and a half days of the largest share, seventeen of 10 %."""
_KEPT_S: Final = 28 * 86_400.0
_ENOUGH_S: Final = 0.8 * (PERIOD_S - CARRY_OVER_S)
"""That must be known of each period."""


@dataclass(slots=True)
class _Half:
    """One period of a pair."""

    span_s: float = 0.0
    energy_j: float = 0.0
    load: float = 0.0
    """Summed over seconds."""


@dataclass(slots=True)
class _Open:
    """The pair that is being observed."""

    number: int
    fleet: Hashable
    halves: dict[bool, _Half] = field(default_factory=lambda: {True: _Half(), False: _Half()})
    """By whether the clock is off."""
    broken: bool = False

    def pair(self, end_s: float) -> Pair | None:
        """Both periods; None when they cannot be compared."""
        off, on = self.halves[True], self.halves[False]
        if self.broken or min(off.span_s, on.span_s) < _ENOUGH_S:
            return None
        return Pair(
            end_s, off.energy_j / off.span_s, on.energy_j / on.span_s, off.load / off.span_s, on.load / on.span_s
        )


class SwitchbackTrial:
    """The pairs of one service, and what they say."""

    def __init__(self) -> None:
        self._pairs: deque[Pair] = deque(maxlen=_MOST_PAIRS)
        self._open: _Open | None = None
        self._saving: SwitchbackSaving | None = None

    @property
    def saving(self) -> SwitchbackSaving | None:
        """What the knob Clock saves; None while too little is known."""
        return self._saving

    @property
    def pairs(self) -> int:
        """How many were compared."""
        return len(self._pairs)

    @property
    def progress(self) -> str:
        """For people."""
        if self._saving is None:
            return f"{self.pairs} of at least {FEWEST_PAIRS} pairs of periods were compared"
        return f"{self.pairs} pairs of periods were compared"

    def observe(
        self,
        schedule: Schedule,
        start_s: float,
        end_s: float,
        *,
        power_w: float | None,
        load: float | None,
        fleet: Hashable,
        clock_off: bool,
    ) -> None:
        """Take what was seen between two looks.

        Spans that reach into another period, or into the time after a switch, are left out; a pair in which the fleet
        changed, or the clock was not as the schedule wants it, is dropped.

        Args:
            schedule: Of the service, as the clock follows it.
            start_s: Unix time of the look before.
            end_s: Unix time of this one.
            power_w: Measured mean of the service meanwhile; None when it is not known.
            load: What the watts follow, as in ``Pair``; None when it is not known.
            fleet: What makes periods comparable, such as serving replicas by shape.
            clock_off: Whether the knob was off in fact at the later look.
        """
        phase = schedule.at(end_s)
        if self._open is not None and self._open.number != phase.pair:
            self._close(end_s)
        if phase.pair is None or not phase.settled_since(start_s) or not start_s < end_s:
            return
        if self._open is None:
            self._open = _Open(phase.pair, fleet)
        if self._open.fleet != fleet or clock_off != phase.clock_off:
            self._open.broken = True
        if power_w is None or load is None or not (isfinite(power_w) and isfinite(load)):
            return
        half, span_s = self._open.halves[clock_off], end_s - start_s
        half.span_s += span_s
        half.energy_j += power_w * span_s
        half.load += load * span_s

    def to_dict(self) -> dict[str, Any]:
        """All pairs, as JSON takes them."""
        return {"pairs": [list(pair) for pair in self._pairs]}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "SwitchbackTrial":
        """Go on where ``to_dict`` was. Raises InvalidInputError for anything else."""
        trial = cls()
        try:
            trial._pairs.extend(Pair(*map(float, row)) for row in state["pairs"])
        except (KeyError, TypeError, ValueError) as error:
            message = (
                f"state of a switchback: {error!r}: must have `pairs` of five numbers each; delete it to begin anew"
            )
            raise InvalidInputError(message) from error
        if not all(isfinite(number) for pair in trial._pairs for number in pair):
            raise InvalidInputError("state of a switchback: must have finite numbers; delete it to begin anew")
        trial._saving = estimate(trial._pairs)
        return trial

    def _close(self, now_s: float) -> None:
        done, self._open = self._open, None
        pair = done.pair(now_s) if done is not None else None
        if pair is None:
            return
        self._pairs.append(pair)
        while self._pairs[0].end_s < now_s - _KEPT_S:
            self._pairs.popleft()
        self._saving = estimate(self._pairs)
