"""Differences of counters over the last seconds."""

from array import array
from collections import deque
from typing import Final, NamedTuple


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


_WIDTH: Final = len(Counts._fields)


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


class LongCountWindow:
    """The same packed, for many readings: half an hour of a pod has 0.15 MB instead of 0.5 MB, for a microsecond more.

    Args:
        length_s: As above.
    """

    def __init__(self, length_s: float) -> None:
        """Empty."""
        self._length_s = length_s
        self._kept = array("d")
        self._oldest = 0
        """Where it begins in ``_kept``."""

    def add(self, counts: Counts) -> Counts:
        """As of ``CountWindow``."""
        kept, oldest = self._kept, self._oldest
        kept.extend(counts)
        since_s = counts.now_s - self._length_s
        while oldest + _WIDTH < len(kept) and kept[oldest + _WIDTH] <= since_s:
            oldest += _WIDTH
        if oldest > len(kept) // 4:  # now and then, as the rest must be moved
            del kept[:oldest]
            oldest = 0
        self._oldest = oldest
        return Counts._make(kept[oldest : oldest + _WIDTH])

    def clear(self) -> None:
        """As of ``CountWindow``."""
        del self._kept[:]
        self._oldest = 0
