"""Collects what happens to the requests of a replay.

The senders only append numbers; everything that costs more is done once per
second, when the current slot of time is closed.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.load.digest import GapDigest
from dynawatt.load.report import Attainment, LoadProgress, LoadReport, Percentiles
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

RECENT_S: Final = 10.0
_QUANTILES: Final = (0.5, 0.9, 0.99)


class _State(IntEnum):
    UNSENT = 0
    SENT = 1
    SUCCEEDED = 2
    FAILED = 3


@dataclass(slots=True)
class _Slot:
    """About one second."""

    start_s: float
    end_s: float = 0.0
    sent: int = 0
    ttft_s: list[float] = field(default_factory=list)
    ttft_met: int = 0
    failed_unanswered: int = 0
    gaps_s: list[float] = field(default_factory=list)
    gap_array_s: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    gaps_met: int = 0


class Meter:
    """Measurements of one replay; times are seconds since its start."""

    def __init__(self, trace: Trace, objectives: LatencyObjectives | None) -> None:
        self._trace = trace
        self._objectives = objectives
        self._limits_s = None if objectives is None else objectives.ttft_s_of(trace.input_tokens)
        self._ttft_s = np.full(len(trace), np.nan)
        self._state = np.zeros(len(trace), dtype=np.int8)
        self._reasons: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._gaps = GapDigest()
        self._gaps_met = 0
        self._generated_tokens = 0
        self._sent = self._succeeded = self._failed = self._retried = 0
        self._max_send_delay_s = 0.0
        self._slots: deque[_Slot] = deque()
        self._slot = _Slot(0.0)

    @property
    def outstanding(self) -> int:
        """Requests sent that have not ended."""
        return self._sent - self._succeeded - self._failed

    def sent(self, index: int, delay_s: float) -> None:
        """A request was started, so much after its time."""
        self._sent += 1
        self._slot.sent += 1
        self._state[index] = _State.SENT
        self._max_send_delay_s = max(self._max_send_delay_s, delay_s)

    def first_token(self, index: int, ttft_s: float) -> None:
        """The first token arrived, so much after the scheduled arrival of the request."""
        self._ttft_s[index] = ttft_s
        self._slot.ttft_s.append(ttft_s)
        self._slot.ttft_met += self._limits_s is not None and ttft_s <= self._limits_s[index]

    def gap(self, gap_s: float) -> None:
        """Another token arrived, so much after the one before."""
        self._slot.gaps_s.append(gap_s)

    def no_gaps(self, count: int) -> None:
        """More tokens arrived at the same moment."""
        self._slot.gaps_s.extend([0.0] * count)

    def retried(self) -> None:
        """A request was sent again."""
        self._retried += 1

    def succeeded(self, index: int, tokens: int) -> None:
        """A request ended with all its tokens."""
        self._succeeded += 1
        self._generated_tokens += tokens
        self._state[index] = _State.SUCCEEDED

    def failed(self, index: int, reason: str, example: str, tokens: int) -> None:
        """A request ended otherwise, after some tokens."""
        self._failed += 1
        self._generated_tokens += tokens
        self._state[index] = _State.FAILED
        self._reasons[reason] += 1
        self._examples.setdefault(reason, example)
        if np.isnan(self._ttft_s[index]):
            self._slot.failed_unanswered += 1

    def close_slot(self, now_s: float) -> None:
        """To be called about once per second."""
        slot, self._slot = self._slot, _Slot(now_s)
        slot.end_s = now_s
        slot.gap_array_s = np.array(slot.gaps_s)
        slot.gaps_s = []
        if self._objectives is not None:
            slot.gaps_met = int((slot.gap_array_s <= self._objectives.tbt_s).sum())
        self._gaps_met += slot.gaps_met
        self._gaps.add(slot.gap_array_s)
        self._slots.append(slot)
        while self._slots[0].end_s <= now_s - RECENT_S:
            self._slots.popleft()

    def progress(self, now_s: float) -> LoadProgress:
        """State of the replay as of the last closed slot."""
        slots = self._slots
        span_s = max(now_s - slots[0].start_s, 1e-9) if slots else 1.0
        ttft_s = np.concatenate([np.array(slot.ttft_s) for slot in slots] or [np.empty(0)])
        gaps_s = np.concatenate([slot.gap_array_s for slot in slots] or [np.empty(0)])
        answered = len(ttft_s) + sum(slot.failed_unanswered for slot in slots)
        return LoadProgress(
            elapsed_s=now_s,
            planned=len(self._trace),
            sent=self._sent,
            outstanding=self.outstanding,
            succeeded=self._succeeded,
            failed=self._failed,
            retried=self._retried,
            attainment=self._attainment(),
            recent_rps=sum(slot.sent for slot in slots) / span_s,
            recent_tokens_per_s=(len(ttft_s) + len(gaps_s)) / span_s,
            recent_attainment=Attainment(
                self._fraction(sum(slot.ttft_met for slot in slots), answered),
                self._fraction(sum(slot.gaps_met for slot in slots), len(gaps_s)),
            ),
            recent_ttft_s=_percentiles(ttft_s),
            recent_tbt_s=_percentiles(gaps_s),
        )

    def report(self, now_s: float, stopped: str | None) -> LoadReport:
        """The end result."""
        self.close_slot(now_s)
        tbt = [self._gaps.quantile_s(fraction) for fraction in _QUANTILES]
        return LoadReport(
            planned=len(self._trace),
            requests=self._sent,
            succeeded=self._succeeded,
            failed=self._failed,
            unfinished=self.outstanding,
            retried=self._retried,
            failed_by_reason=dict(self._reasons.most_common()),
            failure_examples=self._examples,
            attainment=self._attainment(),
            ttft_s=_percentiles(self._ttft_s[np.isfinite(self._ttft_s)]),
            tbt_s=Percentiles(*tbt),
            gaps=self._gaps.count,
            prompt_tokens=int(self._trace.input_tokens[self._state == _State.SUCCEEDED].sum()),
            generated_tokens=self._generated_tokens,
            duration_s=now_s,
            max_send_delay_s=self._max_send_delay_s,
            objectives=self._objectives,
            stopped=stopped,
        )

    def _attainment(self) -> Attainment:
        met = 0
        if self._limits_s is not None:
            met = int(((self._state == _State.SUCCEEDED) & (self._ttft_s <= self._limits_s)).sum())
        return Attainment(
            self._fraction(met, self._succeeded + self._failed), self._fraction(self._gaps_met, self._gaps.count)
        )

    def _fraction(self, met: int, count: int) -> float | None:
        return met / count if count and self._objectives is not None else None


def _percentiles(values_s: NDArray[np.float64] | Sequence[float]) -> Percentiles:
    if not len(values_s):
        return Percentiles(None, None, None)
    return Percentiles(*(float(value) for value in np.quantile(values_s, _QUANTILES)))
