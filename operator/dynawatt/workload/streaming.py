"""A workload: requests that arrive over a span of time, handed out in chunks so that a week never stands in memory."""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.trace import ScaleMode, Trace, check_rate_scale, joined

CHUNK_S: Final = 3600.0
MAX_CHUNK_REQUESTS: Final = 1 << 20


class Workload(Protocol):
    """What a service is asked: a rate over time, lengths, and how bursty the arrivals are."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    @property
    def span_s(self) -> float:
        """How long it lasts, unscaled."""
        ...

    @property
    def mean_rps(self) -> float:
        """Mean rate over the span."""
        ...

    @property
    def peak_rps(self) -> float:
        """Highest rate over some minutes: expected of a built-in workload, counted in a recorded one."""
        ...

    @property
    def interarrival_cv(self) -> float:
        """Standard deviation over mean of the gaps between requests, 1 for Poisson; nan if unknown.

        Of a built-in workload it is that beyond the changes of its rate curve.
        """
        ...

    def mix(self, size: int, seed: int = 0) -> LengthMix:
        """``size`` requests drawn at random."""
        ...

    def chunks(
        self,
        *,
        hours: float | None = None,
        seed: int = 0,
        rate_scale: float = 1.0,
        scale_mode: ScaleMode = ScaleMode.SUPERPOSE,
        chunk_s: float = CHUNK_S,
    ) -> Iterator[Trace]:
        """All requests of the first ``hours`` (of the scaled load), in order, at absolute times in s from the start.

        A chunk covers at most ``chunk_s`` seconds and MAX_CHUNK_REQUESTS requests; none is empty. The requests depend
        on all arguments but ``chunk_s``. Raises InvalidInputError at once when an argument makes no sense.
        """
        ...


def window_end_s(workload: Workload, hours: float | None, rate_scale: float, mode: ScaleMode, chunk_s: float) -> float:
    """End in s of what ``chunks`` has to give. Raises InvalidInputError when an argument of it makes no sense."""
    check_rate_scale(rate_scale)
    if not chunk_s > 0:
        raise InvalidInputError(f"chunks of {chunk_s} s: must be above 0")
    scaled_s = workload.span_s / rate_scale if mode is ScaleMode.COMPRESS else workload.span_s
    if hours is None:
        return scaled_s
    if not 0 < hours * 3600 <= scaled_s * (1 + 1e-9):
        # One hour of a trace is rarely a full hour: asking for the next whole one means all of it.
        if np.ceil(scaled_s / 3600) == hours:
            return scaled_s
        raise InvalidInputError(
            f"{hours:g} hours of {workload.name}: must be above 0 and at most the {scaled_s / 3600:.4g} it lasts"
        )
    return min(hours * 3600, scaled_s)


def rechunk(pieces: Iterable[Trace], chunk_s: float) -> Iterator[Trace]:
    """The same requests, cut at multiples of ``chunk_s`` and after MAX_CHUNK_REQUESTS; pieces are in order."""
    held: list[Trace] = []
    rows, number = 0, -1
    for piece in pieces:
        numbers = np.floor_divide(piece.arrival_s, chunk_s)
        starts = np.flatnonzero(np.diff(numbers, prepend=-1.0)).tolist()
        for start, end in zip(starts, [*starts[1:], len(piece)], strict=True):
            if held and numbers[start] != number:
                yield joined(held)
                held, rows = [], 0
            number = numbers[start]
            at = start
            while at < end:
                until = min(end, at + MAX_CHUNK_REQUESTS - rows)
                held.append(_part(piece, at, until))
                rows += until - at
                at = until
                if rows == MAX_CHUNK_REQUESTS:
                    yield joined(held)
                    held, rows = [], 0
    if held:
        yield joined(held)


def _part(trace: Trace, start: int, end: int) -> Trace:
    return Trace(trace.arrival_s[start:end], trace.input_tokens[start:end], trace.output_tokens[start:end])
