"""What the operator itself does: planning rounds and writes to the API."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

_PLAN_S: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0)
"""Upper ends of the buckets."""


class Scope(StrEnum):
    """Which services were planned for."""

    ALL = "all"
    SOME = "some"


@dataclass(slots=True)
class _Rounds:
    counts: list[int] = field(default_factory=lambda: [0] * (len(_PLAN_S) + 1))
    """By bucket."""
    sum_s: float = 0.0


class Work:
    """Counts what is done. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._plans = {scope: _Rounds() for scope in Scope}
        self._writes: Counter[tuple[str, str]] = Counter()

    def planned(self, duration_s: float, scope: Scope) -> None:
        """Services were planned for together."""
        with self._lock:
            rounds = self._plans[scope]
            rounds.counts[bisect_left(_PLAN_S, duration_s)] += 1
            rounds.sum_s += duration_s

    def wrote(self, verb: str, resource: str) -> None:
        """A request that changes something was sent, such as ``patch`` and ``deployments/scale``."""
        with self._lock:
            self._writes[verb, resource] += 1

    def families(self) -> Iterator[Metric]:
        """All families about the operator."""
        with self._lock:
            plans = {scope: (list(accumulate(rounds.counts)), rounds.sum_s) for scope, rounds in self._plans.items()}
            sent = dict(self._writes)
        took = HistogramMetricFamily(
            "dynawatt_plan_duration_seconds",
            "How long it took to plan: for all services together, or for some whose load or replicas changed.",
            labels=("scope",),
        )
        for scope, (counts, sum_s) in plans.items():
            took.add_metric((scope,), list(zip([*map(str, _PLAN_S), "+Inf"], counts, strict=True)), sum_s)
        yield took
        writes = CounterMetricFamily(
            "dynawatt_api_writes",
            "Requests to the Kubernetes API that change something; renewals of the Lease are among them.",
            None,
            ("verb", "resource"),
        )
        for labels, count in sorted(sent.items()):
            writes.add_metric(labels, count)
        yield writes
