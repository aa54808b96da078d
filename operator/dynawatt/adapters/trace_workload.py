"""Trace files as workloads: measured in one pass, held in memory only when they are small."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from dynawatt.adapters.trace_files import read_blocks
from dynawatt.errors import InvalidInputError
from dynawatt.workload.measuring import LoadMeter
from dynawatt.workload.recorded import MeasuredWorkload, RecordedWorkload, before
from dynawatt.workload.streaming import CHUNK_S, Workload, rechunk, window_end_s
from dynawatt.workload.trace import ScaleMode, Trace, joined

MAX_HELD_REQUESTS: Final = 5_000_000
"""A trace with more is read from its file each time."""


def read_workload(path: Path, *, max_held: int = MAX_HELD_REQUESTS) -> Workload:
    """A trace file as a workload. Raises InvalidInputError with file, line, value and remedy."""
    meter = LoadMeter()
    held: list[Trace] = []
    requests = 0
    for block in read_blocks(path):
        meter.add(block)
        requests += len(block)
        if requests <= max_held:
            held.append(block)
        else:
            held.clear()
    statistics = meter.result()
    return (
        RecordedWorkload(path.name, statistics, joined(held)) if held else StreamedWorkload(path.name, statistics, path)
    )


@dataclass(frozen=True, eq=False)
class StreamedWorkload(MeasuredWorkload):
    """A trace too long to be held. Compressing scales it to any rate; superposing only thins it out, at random."""

    path: Path

    def chunks(
        self,
        *,
        hours: float | None = None,
        seed: int = 0,
        rate_scale: float = 1.0,
        scale_mode: ScaleMode = ScaleMode.SUPERPOSE,
        chunk_s: float = CHUNK_S,
    ) -> Iterator[Trace]:
        """See ``Workload``. Reading may raise InvalidInputError, as when the file has changed meanwhile."""
        end_s = window_end_s(self, hours, rate_scale, scale_mode, chunk_s)
        if scale_mode is not ScaleMode.COMPRESS and rate_scale > 1:
            raise InvalidInputError(
                f"rate scale {rate_scale:g} of {self.name} with its {self.statistics.requests} requests: only up to "
                f"{MAX_HELD_REQUESTS} can be superposed; choose scale mode compress or a shorter trace"
            )
        return rechunk(before(self._scaled(rate_scale, scale_mode, seed), end_s), chunk_s)

    def _scaled(self, rate_scale: float, mode: ScaleMode, seed: int) -> Iterator[Trace]:
        rng = np.random.default_rng(seed)
        for block in read_blocks(self.path):
            if rate_scale == 1:
                yield block
            elif mode is ScaleMode.COMPRESS:
                yield block.compress(rate_scale)
            else:
                kept = rng.random(len(block)) < rate_scale
                yield Trace(block.arrival_s[kept], block.input_tokens[kept], block.output_tokens[kept])
