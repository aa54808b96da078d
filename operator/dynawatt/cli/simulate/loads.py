"""The load that ``dynawatt simulate`` replays: a trace or a built-in workload, as a served model would get it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf, nextafter
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from dynawatt.adapters.trace_workload import read_workload
from dynawatt.errors import InvalidInputError
from dynawatt.quantities import S_PER_HOUR
from dynawatt.workload.builtin import BuiltInWorkload, built_in
from dynawatt.workload.context import FitCount, fit_to_context
from dynawatt.workload.measuring import PEAK_WINDOW_S, LoadMeter
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.streaming import CHUNK_S, Workload, window_end_s
from dynawatt.workload.trace import ScaleMode, Trace

BURSTY_CV: Final = 2.0
"""CV of the gaps between requests above which bursts move the counts of minutes more than rates do."""
_MIX_REQUESTS: Final = 4096
_LEAST_HORIZON_S: Final = 1.0
_LONGEST_TRACE_S: Final = 10 * 365 * 24 * S_PER_HOUR


class SizingLoad(NamedTuple):
    """What the size of a fleet depends on, lengths aside."""

    peak_rps: float
    """Mean over the busiest five minutes."""
    interarrival_cv: float
    """Of the renewal process that surfaces are simulated with."""


@dataclass(slots=True)
class Load:
    """A workload at one rate over one window; every policy gets the same requests."""

    workload: Workload
    hours: float | None
    seed: int
    scale_mode: ScaleMode
    context_tokens: int
    """Of the served model; what is longer is clipped or dropped, and counted."""
    rate_scale: float = 1.0
    fit: FitCount = field(default_factory=FitCount)
    """What the context changed in the chunks handed out last."""

    @property
    def end_s(self) -> float:
        """Length of the window. Raises InvalidInputError when it makes no sense."""
        return window_end_s(self.workload, self.hours, self.rate_scale, self.scale_mode, CHUNK_S)

    @property
    def horizon_s(self) -> float:
        """All requests arrive before this: a trace's last one arrives at its very end.

        At least a second: of a load without length nothing can be said per second.
        """
        return max(_LEAST_HORIZON_S, nextafter(self.end_s, inf))

    def statistics(self) -> SizingLoad:
        """What fleets are sized for, within the window and at the present scale.

        Counted, except that of a built-in workload the peak is the expected one and the burstiness its own.
        """
        if isinstance(self.workload, BuiltInWorkload):
            return SizingLoad(_expected_peak_rps(self.workload, self), self.workload.interarrival_cv)
        meter = LoadMeter()
        for chunk in self.chunks():
            meter.add(chunk)
        found = meter.result()
        return SizingLoad(found.peak_rps, found.burstiness)

    @property
    def is_recorded(self) -> bool:
        """Whether the requests are those of a trace, whose bursts no renewal process has."""
        return not isinstance(self.workload, BuiltInWorkload)

    def chunks(self) -> Iterator[Trace]:
        """The requests from the beginning. Raises InvalidInputError at once when an argument makes no sense."""
        chunks = self.workload.chunks(
            hours=self.hours, seed=self.seed, rate_scale=self.rate_scale, scale_mode=self.scale_mode
        )
        return self._fitting(chunks)

    def mix(self) -> LengthMix:
        """A sample of the lengths that are served."""
        drawn = self.workload.mix(_MIX_REQUESTS, self.seed)
        sample = Trace(np.zeros(len(drawn.input_tokens)), drawn.input_tokens, drawn.output_tokens)
        kept, _ = fit_to_context(sample, self.context_tokens)
        if not len(kept):
            raise InvalidInputError(
                f"no request of {self.workload.name} fits a context of {self.context_tokens} tokens: take another model"
            )
        return LengthMix(kept.input_tokens, kept.output_tokens)

    def _fitting(self, chunks: Iterator[Trace]) -> Iterator[Trace]:
        self.fit = FitCount()
        for chunk in chunks:
            kept, count = fit_to_context(chunk, self.context_tokens)
            self.fit += count
            yield kept


def _expected_peak_rps(workload: BuiltInWorkload, load: Load) -> float:
    """From the rate curve: what is drawn varies around it, which the burstiness stands for."""
    windows = max(1, int(load.end_s / PEAK_WINDOW_S))
    counts = workload.expected_by(np.linspace(0.0, load.end_s, windows + 1), load.rate_scale, load.scale_mode)
    return float(np.diff(counts).max() * windows / load.end_s)


def find_workload(trace: Path | None, workload: str | None, burstiness: float | None) -> Workload:
    """The workload that the options name. Raises InvalidInputError."""
    if workload is not None and trace is None:
        return built_in(workload, burstiness)
    if trace is None or workload is not None:
        raise InvalidInputError("what to replay: give either --trace FILE or --workload NAME")
    if burstiness is not None:
        raise InvalidInputError(f"--burstiness {burstiness:g}: a trace has its own; use it with --workload")
    found = read_workload(trace)
    if found.span_s > _LONGEST_TRACE_S:
        raise InvalidInputError(
            f"--trace {trace}: lasts {found.span_s / S_PER_HOUR:.3g} hours: must be at most ten years; TIMESTAMP is "
            "seconds, not milliseconds or nanoseconds, or a UTC time"
        )
    return found
