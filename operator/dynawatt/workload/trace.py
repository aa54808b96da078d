"""A request trace: when requests arrive and how long they are.

Times are seconds from the start of the trace. Scaling up superposes time-shifted
copies, as if more independent users came, which evens the load out; or lets copies
coincide, as if more users came at the same times of the day; or compresses time,
which keeps the burstiness of the original.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.errors import InvalidInputError

MAX_TOKENS: Final = 1_000_000
"""More tokens than this in one request is a mistake in the data."""
MAX_SCALE: Final = 1000.0
COINCIDENCE_S: Final = 60.0
"""Within this time the same users come: minutes of load stay what they were."""


class ScaleMode(StrEnum):
    """How a trace is brought to a higher or lower rate."""

    SUPERPOSE = "superpose"
    COINCIDE = "coincide"
    COMPRESS = "compress"

    @property
    def within_s(self) -> float | None:
        """How far copies are shifted apart at most; None for all around the span."""
        return COINCIDENCE_S if self is ScaleMode.COINCIDE else None


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Requests in order of arrival. Raises InvalidInputError naming the request when one makes no sense."""

    arrival_s: NDArray[np.float64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Check lengths, order and ranges."""
        if not len(self.arrival_s) == len(self.input_tokens) == len(self.output_tokens):
            raise InvalidInputError("trace columns have different lengths: every request needs all three values")
        wrong = np.flatnonzero(~(np.isfinite(self.arrival_s) & (self.arrival_s >= 0)))
        if len(wrong):
            row = int(wrong[0])
            raise InvalidInputError(
                f"request {row + 1} arrives at {self.arrival_s[row]} s: must be a number, 0 or more, of seconds"
            )
        backwards = np.flatnonzero(np.diff(self.arrival_s) < 0)
        if len(backwards):
            row = int(backwards[0]) + 2
            raise InvalidInputError(f"request {row} arrives before the one above it: sort the trace by time")
        for name, tokens in (("input", self.input_tokens), ("output", self.output_tokens)):
            wrong = np.flatnonzero((tokens < 1) | (tokens > MAX_TOKENS))
            if len(wrong):
                row = int(wrong[0])
                raise InvalidInputError(
                    f"request {row + 1} has {tokens[row]} {name} tokens: must be between 1 and {MAX_TOKENS}"
                )

    def __len__(self) -> int:
        """Number of requests."""
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """Time of the last arrival; 0 when empty."""
        return float(self.arrival_s[-1]) if len(self) else 0.0

    @property
    def mean_rps(self) -> float:
        """Requests per second over the span; 0 without one."""
        return len(self) / self.span_s if self.span_s > 0 else 0.0

    def peak_rps(self, window_s: float = 60.0) -> float:
        """Highest rate in any window that starts at an arrival."""
        if not len(self):
            return 0.0
        ends = np.searchsorted(self.arrival_s, self.arrival_s + window_s, side="left")
        return float((ends - np.arange(len(self))).max() / window_s)

    def window(self, start_s: float, duration_s: float | None = None) -> "Trace":
        """Requests from ``start_s`` on, for ``duration_s`` or to the end; times start at 0 again."""
        first = np.searchsorted(self.arrival_s, start_s, side="left")
        last = len(self) if duration_s is None else np.searchsorted(self.arrival_s, start_s + duration_s, side="left")
        return self._pick(np.arange(first, last), self.arrival_s[first:last] - start_s)

    def compress(self, factor: float) -> "Trace":
        """All times divided by ``factor``: a higher rate with the same burstiness."""
        check_rate_scale(factor)
        return self._pick(np.arange(len(self)), self.arrival_s / factor)

    def superpose(self, factor: float, seed: int = 0, within_s: float | None = None) -> "Trace":
        """``factor`` copies of the trace on top of each other, shifted in time around its span, or only ``within_s``.

        The first copy stays where it is; of the last one only the fraction that is wanted is kept, at random.
        """
        copies = self.copies(factor, seed, within_s)
        rows = [np.arange(len(self)) if kept is None else kept for _, kept in copies]
        times = [
            (self.arrival_s[row] + shift) % self.span_s if shift else self.arrival_s[row]
            for row, (shift, _) in zip(rows, copies, strict=True)
        ]
        all_rows, all_times = np.concatenate(rows), np.concatenate(times)
        order = np.argsort(all_times, kind="stable")
        return self._pick(all_rows[order], all_times[order])

    def copies(
        self, factor: float, seed: int, within_s: float | None = None
    ) -> list[tuple[float, NDArray[np.int64] | None]]:
        """What is superposed: the shift of each copy in s, and its requests where these are not all."""
        check_rate_scale(factor)
        rng = np.random.default_rng(seed)
        whole = int(factor)
        count = whole + (factor > whole)
        spread_s = self.span_s if within_s is None else min(self.span_s, within_s)
        shifts = spread_s * (np.arange(count) + rng.uniform(-0.4, 0.4, count)) / count
        shifts[0] = 0.0
        kept: list[NDArray[np.int64] | None] = [None] * count
        if factor > whole:
            kept[-1] = rng.permutation(len(self))[: round(len(self) * (factor - whole))]
        return list(zip(shifts.tolist(), kept, strict=True))

    def excerpt(
        self,
        *,
        rate_scale: float = 1.0,
        mode: ScaleMode = ScaleMode.SUPERPOSE,
        start_s: float = 0.0,
        duration_s: float | None = None,
        seed: int = 0,
    ) -> "Trace":
        """What a replay sends: the trace at another rate, from ``start_s`` of the trace on.

        ``duration_s`` is time of the replay: compressed, it takes ``rate_scale`` times as much of the trace. Copies are
        superposed before the window is cut, so that they bring other parts of the trace into it.
        """
        check_rate_scale(rate_scale)
        if not 0 <= start_s < np.inf:
            raise InvalidInputError(f"start offset {start_s} s: must be 0 or more")
        if duration_s is not None and not 0 < duration_s < np.inf:
            raise InvalidInputError(f"duration {duration_s} s: must be above 0")
        if mode is ScaleMode.COMPRESS:
            trace_s = None if duration_s is None else duration_s * rate_scale
            found = self.window(start_s, trace_s).compress(rate_scale)
        else:
            scaled = self if rate_scale == 1 else self.superpose(rate_scale, seed, mode.within_s)
            found = scaled.window(start_s, duration_s)
        if not len(found):
            raise InvalidInputError(
                f"no request to send from {start_s} s on: the trace has {len(self)} in {self.span_s:.1f} s; "
                "choose an earlier start, a longer duration or a higher rate scale"
            )
        return found

    def _pick(self, rows: NDArray[np.int64], times: NDArray[np.float64]) -> "Trace":
        return Trace(times, self.input_tokens[rows], self.output_tokens[rows])


def joined(pieces: Sequence[Trace]) -> Trace:
    """One trace of pieces that follow one another; of none, an empty one."""
    if len(pieces) == 1:
        return pieces[0]
    none = np.empty(0, dtype=np.int64)
    return Trace(
        np.concatenate([np.empty(0), *(piece.arrival_s for piece in pieces)]),
        np.concatenate([none, *(piece.input_tokens for piece in pieces)]),
        np.concatenate([none, *(piece.output_tokens for piece in pieces)]),
    )


def check_rate_scale(factor: float) -> None:
    """Raises InvalidInputError when a load cannot be scaled by this."""
    if not 0 < factor <= MAX_SCALE:
        raise InvalidInputError(f"rate scale {factor}: must be above 0 and at most {MAX_SCALE:g}")
