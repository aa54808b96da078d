"""The governor's table: what each clock carries, made by the planner and sent in a claim.

A row is the clock that draws least for its loads: the planner leaves out clocks
that another one beats, so that the first row that suffices is also the cheapest.
A table is a few hundred bytes of JSON.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite
from typing import Any, Final, NamedTuple

MAX_ROWS: Final = 16
_ROW_KEYS: Final = 4


class ClockRow(NamedTuple):
    """What one replica does at one clock."""

    clock_mhz: int
    load_rps: float
    """Highest steady arrival rate within the SLO, at a percentile with some reserve; by simulation."""
    prefill_tokens_per_s: float
    """Prompt tokens when many wait."""
    decode_requests: int
    """Most decoding requests of mean context whose step is within the TBT objective."""


@dataclass(frozen=True, slots=True)
class GovernorTable:
    """All that a governor knows about its replica and its SLO. Raises ValueError for what makes no sense."""

    attainment: float
    """Fraction of first tokens, and of gaps, that must be in time."""
    tbt_s: float
    """Objective of gaps; the reader of a pod's metrics counts against the histogram bucket that ends there."""
    drain_s: float
    """Within this time the waiting prompt tokens must be prefilled."""
    prompt_tokens: float
    """Mean of a request."""
    kv_requests: float
    """Requests of mean context that fill the KV cache."""
    judges_ttft: bool
    """Whether first tokens can be told to be in time. vLLM's own histogram has no lengths: with objectives by length
    only the plug-in can tell, and without it the governor looks at the queue instead."""
    rows: tuple[ClockRow, ...]
    """Ascending in all columns."""

    def __post_init__(self) -> None:
        """Check ranges and order."""
        if not 0 < self.attainment < 1:
            raise ValueError(f"governor table: attainment {self.attainment} must be between 0 and 1")
        for name in ("tbt_s", "drain_s", "prompt_tokens", "kv_requests"):
            if not 0 < getattr(self, name) < inf:
                raise ValueError(f"governor table: {name} {getattr(self, name)} must be above 0")
        if not 1 <= len(self.rows) <= MAX_ROWS:
            raise ValueError(f"governor table: {len(self.rows)} rows, must be 1 to {MAX_ROWS}")
        if not all(isfinite(value) and value >= 0 for row in self.rows for value in row):
            raise ValueError("governor table: every number of a row must be 0 or more")
        if any(low.clock_mhz >= high.clock_mhz for low, high in pairwise(self.rows)):
            raise ValueError("governor table: clocks must ascend from row to row")
        if any(low > high for lower, upper in pairwise(self.rows) for low, high in zip(lower, upper, strict=True)):
            raise ValueError("governor table: a higher clock must carry at least as much as a lower one")

    def to_dict(self) -> dict[str, Any]:
        """As ``from_dict`` takes it; rounded to what matters, so that equal plans give equal text."""
        return {
            "attainment": self.attainment,
            "tbt": self.tbt_s,
            "drain": round(self.drain_s, 3),
            "prompt": round(self.prompt_tokens, 1),
            "kv": round(self.kv_requests, 1),
            "ttft": self.judges_ttft,
            "rows": [[row[0], round(row[1], 3), round(row[2]), row[3]] for row in self.rows],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GovernorTable":
        """Strictly what ``to_dict`` gives. Raises ValueError: an unknown table is never half understood."""
        wanted = {"attainment", "tbt", "drain", "prompt", "kv", "ttft", "rows"}
        if set(values) != wanted:
            raise ValueError(f"governor table: must have exactly {', '.join(sorted(wanted))}")
        if not isinstance(values["ttft"], bool):
            raise ValueError("governor table: ttft must be true or false")
        if not isinstance(values["rows"], Sequence) or isinstance(values["rows"], str):
            raise ValueError("governor table: rows must be an array of arrays")
        return cls(
            attainment=_number(values["attainment"]),
            tbt_s=_number(values["tbt"]),
            drain_s=_number(values["drain"]),
            prompt_tokens=_number(values["prompt"]),
            kv_requests=_number(values["kv"]),
            judges_ttft=values["ttft"],
            rows=tuple(_row(row) for row in values["rows"]),
        )

    def within(self, floor_mhz: int, ceiling_mhz: int) -> tuple[ClockRow, ...]:
        """The rows of a claim: between floor and ceiling, and one at each of the two ends.

        The floor gets what the next lower clock carries; where there is none, the lowest row above is taken instead.
        The row of the ceiling comes last and stands for all that no other row carries.
        """
        if not 0 < floor_mhz <= ceiling_mhz:
            raise ValueError(f"clocks from {floor_mhz} to {ceiling_mhz} MHz: the floor must be above 0, not the higher")
        top = ClockRow(ceiling_mhz, inf, inf, 1 << 60)
        if floor_mhz == ceiling_mhz:
            return (top,)
        at_floor = [row._replace(clock_mhz=floor_mhz) for row in self.rows if row.clock_mhz <= floor_mhz][-1:]
        return (*at_floor, *(row for row in self.rows if floor_mhz < row.clock_mhz < ceiling_mhz), top)


def _row(values: Any) -> ClockRow:
    if not isinstance(values, Iterable) or isinstance(values, str):
        raise ValueError("governor table: a row must be an array of numbers")
    numbers = [_number(value) for value in values]
    if len(numbers) != _ROW_KEYS:
        raise ValueError(f"governor table: a row has {len(numbers)} numbers, must have {_ROW_KEYS}")
    if not numbers[0].is_integer() or not numbers[3].is_integer():
        raise ValueError("governor table: clocks and requests must be whole numbers")
    return ClockRow(int(numbers[0]), numbers[1], numbers[2], int(numbers[3]))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"governor table: {value!r} must be a number")
    return float(value)
