"""When the knob Clock is off, so that what it saves can be measured.

Time is cut into hours, and each hour into six pairs of periods of five minutes. In
as many pairs as the wanted share asks for, drawn at random in every hour, the
clock is off in one period, and a coin says in which. So every time of day has its
share, and each period with the clock off has one beside it with the clock on. As
the order within a pair is random, load that rises or falls meets both kinds alike.

The draws are hashes of the service's UID and the time: nothing is remembered, so
that an operator that starts anew goes on with the same schedule. Hours begin at a
moment of the service's own, so that services do not switch together.
"""

from dataclasses import dataclass
from hashlib import blake2b
from math import floor
from typing import Final

from dynawatt.errors import InvalidInputError
from dynawatt.quantities import S_PER_HOUR

PERIOD_S: Final = 300.0
CARRY_OVER_S: Final = 60.0
"""After the start of a period nothing is counted.

The operator takes up to one tick of 10 s to change a claim, agents a second to follow it, a Prometheus that scrapes
every 30 s is so much late, and requests that began at the other clock have ended or reached their steady pace.
"""
MOST_PERCENT: Final = 50.0
_PAIRS: Final = 6
"""Of an hour."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Where a moment lies."""

    clock_off: bool
    pair: int | None
    """Number of the pair that is compared now; None at times that are not."""
    start_s: float
    """Of the period."""
    end_s: float

    def settled_since(self, start_s: float) -> bool:
        """Whether what happens from this time on, within the period, counts."""
        return self.pair is not None and self.start_s + CARRY_OVER_S <= start_s


@dataclass(frozen=True, slots=True)
class Schedule:
    """Of one service. Raises InvalidInputError for a share that cannot be."""

    uid: str
    """Of the LLMService."""
    percent: float
    """Share of the time with the clock off. A larger share has all periods of a smaller one, and more."""

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.percent <= MOST_PERCENT:
            raise InvalidInputError(f"switchback of {self.percent} %: must be between 0 and {MOST_PERCENT:g}")

    def at(self, now_s: float) -> Phase:
        """Where a moment of Unix time lies."""
        offset_s = self._draw("offset") * S_PER_HOUR
        period = floor((now_s - offset_s) / PERIOD_S)
        pair, second = divmod(period, 2)
        start_s = offset_s + period * PERIOD_S
        compared = pair in self._pairs(pair // _PAIRS)
        off = compared and (self._draw(f"order/{pair}") < 0.5) == bool(second)
        return Phase(off, pair if compared else None, start_s, start_s + PERIOD_S)

    def _pairs(self, hour: int) -> list[int]:
        """Numbers of the pairs that are compared in an hour."""
        wanted = self.percent / 100 * 2 * _PAIRS
        # What is left of a whole number is drawn: 10 % are one pair in most hours, and two in every fifth.
        count = floor(wanted + self._draw(f"count/{hour}"))
        pairs = range(hour * _PAIRS, (hour + 1) * _PAIRS)
        return sorted(pairs, key=lambda pair: self._draw(f"rank/{pair}"))[:count]

    def _draw(self, what: str) -> float:
        """A number from 0 up to 1 that depends on nothing but the service and what it is for."""
        digest = blake2b(f"{self.uid}/{what}".encode(), digest_size=6).digest()
        return int.from_bytes(digest) / 2**48
