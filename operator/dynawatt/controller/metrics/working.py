"""What the operator itself does: planning rounds and writes to the API."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

_PLAN_S: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0)
"""Upper ends of the buckets."""


class Work:
    """Counts what is done. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._plans = [0] * (len(_PLAN_S) + 1)
        self._plan_s = 0.0
        self._writes: Counter[tuple[str, str]] = Counter()

    def planned(self, duration_s: float) -> None:
        """All services were planned for once."""
        with self._lock:
            self._plans[bisect_left(_PLAN_S, duration_s)] += 1
            self._plan_s += duration_s

    def wrote(self, verb: str, resource: str) -> None:
        """A request that changes something was sent, such as ``patch`` and ``deployments/scale``."""
        with self._lock:
            self._writes[verb, resource] += 1

    def families(self) -> Iterator[Metric]:
        """All families about the operator."""
        with self._lock:
            plans, plan_s, sent = list(accumulate(self._plans)), self._plan_s, dict(self._writes)
        yield HistogramMetricFamily(
            "dynawatt_plan_duration_seconds",
            "How long it took to plan for all services at once.",
            buckets=list(zip([*map(str, _PLAN_S), "+Inf"], plans, strict=True)),
            sum_value=plan_s,
        )
        writes = CounterMetricFamily(
            "dynawatt_api_writes",
            "Requests to the Kubernetes API that change something; renewals of the Lease are among them.",
            None,
            ("verb", "resource"),
        )
        for labels, count in sorted(sent.items()):
            writes.add_metric(labels, count)
        yield writes
