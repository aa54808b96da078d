"""Hands a stream of arrivals out in pieces, so that a week of requests is never held at once."""

from collections.abc import Iterable

import numpy as np

from dynawatt.workload.trace import Trace, joined


class ArrivalFeed:
    """A load in chunks of any size, with absolute times that ascend over all of them."""

    def __init__(self, chunks: Iterable[Trace]) -> None:
        """Takes the first chunk when it is asked for it."""
        self._chunks = iter(chunks)
        self._chunk: Trace | None = joined([])
        self._given = 0
        """Requests of the chunk that were handed out."""

    def until(self, time_s: float) -> Trace | None:
        """All requests that arrive before this time and were not handed out yet; None without any."""
        pieces: list[Trace] = []
        while self._chunk is not None:
            chunk, begin = self._chunk, self._given
            end = begin + int(np.searchsorted(chunk.arrival_s[begin:], time_s, side="left"))
            if end > begin:
                part = slice(begin, end)
                pieces.append(Trace(chunk.arrival_s[part], chunk.input_tokens[part], chunk.output_tokens[part]))
            self._given = end
            if end < len(chunk):
                break
            self._chunk, self._given = next(self._chunks, None), 0
        return joined(pieces) if pieces else None
