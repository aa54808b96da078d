"""Differences of counters over the last seconds."""

from collections import deque
from typing import NamedTuple


class Counts(NamedTuple):
    """Counters at one time."""

    now_s: float
    arrived: float
    finished: float
    first_tokens: float
    first_tokens_late: float
    gaps: float
    gaps_late: float
    prompt_tokens: float


class CountWindow:
    """The counters of the last seconds.

    Args:
        length_s: How far it looks back; after a gap between readings, as far as the reading before the gap.
    """

    def __init__(self, length_s: float) -> None:
        """Empty."""
        self._length_s = length_s
        self._kept: deque[Counts] = deque()

    def add(self, counts: Counts) -> Counts:
        """Keep a reading; the one to subtract from it: the youngest that is old enough, or the oldest there is."""
        kept = self._kept
        kept.append(counts)
        since_s = counts.now_s - self._length_s
        while len(kept) > 1 and kept[1].now_s <= since_s:
            kept.popleft()
        return kept[0]

    def clear(self) -> None:
        """Forget everything, as after a restart of the pod."""
        self._kept.clear()
