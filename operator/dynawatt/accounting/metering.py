"""The measured energy of one service, from the counters of its pods.

Counters of pods come and go, and a sum that leaves a pod out would look like a
saving. So energy is told only over spans for which every pod that holds GPUs was
read at both ends. As counters accumulate, a span may be as long as it takes until
all are read again, and nothing is lost meanwhile: a pod that has gone is told by
its agent for some minutes more.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple


class EnergySpan(NamedTuple):
    """Energy between two complete readings."""

    start_s: float
    end_s: float
    energy_j: float | None
    """None where it cannot be told: at the first reading, and when a counter began anew."""


class ServiceMeter:
    """Adds up the joules of a service's pods. Times are any seconds that go on evenly."""

    def __init__(self, *, window_s: float = 120.0) -> None:
        """``power_w`` is a mean over the window, which must hold several scrapes."""
        self._window_s: Final = window_s
        self._read_j: dict[str, float] = {}
        self._unread_j = 0.0
        """Counted since the last complete reading."""
        self._broken = True
        """Whether something since the last complete reading cannot be told."""
        self._complete_s: float | None = None
        self._recent: deque[EnergySpan] = deque()

    def pods(self, holders: Collection[str]) -> set[str]:
        """Whose counters to read: of the pods that hold GPUs now, and of those that did."""
        return {*holders, *self._read_j}

    def observe(self, now_s: float, counters_j: Mapping[str, float], holders: Collection[str]) -> EnergySpan | None:
        """Take what could be read; the energy since the last complete reading, None while this one is none.

        Args:
            now_s: Time of the reading.
            counters_j: Joules by pod, of as many of ``pods(holders)`` as are known.
            holders: Pods that hold GPUs now, those that start or drain included.
        """
        for pod, counter_j in counters_j.items():
            self._count(pod, counter_j)
        # One that is neither there nor told is gone for good.
        self._read_j = {pod: joules for pod, joules in self._read_j.items() if pod in counters_j or pod in holders}
        if not all(pod in counters_j for pod in holders):
            return None
        energy_j = None if self._broken or self._complete_s is None else self._unread_j
        span = EnergySpan(now_s if self._complete_s is None else self._complete_s, now_s, energy_j)
        self._complete_s, self._unread_j, self._broken = now_s, 0.0, False
        self._remember(span)
        return span

    @property
    def power_w(self) -> float | None:
        """Mean over the last window; None while nothing of it is known."""
        known = [(span.energy_j, span.end_s - span.start_s) for span in self._recent if span.energy_j is not None]
        seconds = sum(seconds for _, seconds in known)
        return sum(joules for joules, _ in known) / seconds if seconds > 0 else None

    def _count(self, pod: str, counter_j: float) -> None:
        before_j = self._read_j.get(pod)
        self._read_j[pod] = counter_j
        if before_j is None:
            # All holders were read at the last complete reading: this pod is new since then, and its counter with it.
            self._unread_j += counter_j
        elif counter_j >= before_j:
            self._unread_j += counter_j - before_j
        else:
            self._broken = True  # its agent began anew, and what the pod used before that nobody knows

    def _remember(self, span: EnergySpan) -> None:
        self._recent.append(span)
        while self._recent and self._recent[0].end_s <= span.end_s - self._window_s:
            self._recent.popleft()
