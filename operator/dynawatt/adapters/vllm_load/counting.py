"""Counts what happened between looks at pods, and sums it over windows.

Between two looks at a pod its counters grow. A counter that shrank began anew at
zero, and so did everything else in that process. Only the growth is kept, per shape
and per look, so that pods that come and go need no thought.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynawatt.adapters.vllm_load.page import Key, PodPage

_NOTHING = PodPage(0.0, 0.0, 0.0, {})


class _Kept(NamedTuple):
    """Growth of one shape between two looks; keys are mostly the same ones again and shared then."""

    keys: tuple[Key, ...]
    values: NDArray[np.float64]


class _Look(NamedTuple):
    begin_s: float
    end_s: float
    shapes: Mapping[str, _Kept]


def growth(before: PodPage, after: PodPage, elapsed_s: float) -> dict[Key, float]:
    """What happened at one pod; besides its counters the change of its gauges and their time integrals."""
    restarted = any(after.counts.get(key, 0.0) < count for key, count in before.counts.items())
    start = _NOTHING if restarted else before
    counts = {key: count - start.counts.get(key, 0.0) for key, count in after.counts.items()}
    counts["running_change", 0.0] = after.running - start.running
    counts["waiting_change", 0.0] = after.waiting - start.waiting
    counts["running_s", 0.0] = elapsed_s * (start.running + after.running) / 2
    if start.kv_usage is not None and after.kv_usage is not None:
        counts["kv_usage_s", 0.0] = elapsed_s * (start.kv_usage + after.kv_usage) / 2
        counts["kv_pod_s", 0.0] = elapsed_s
    return counts


class Ring:
    """The growth of one service over the longest window that is asked for."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()
        self._keys: dict[tuple[Key, ...], tuple[Key, ...]] = {}

    def add(
        self, begin_s: float, end_s: float, grown: Iterable[tuple[str, Mapping[Key, float]]], keep_s: float
    ) -> None:
        """One look at all pods, by the shape of each; what is older than ``keep_s`` is dropped."""
        sums: dict[str, dict[Key, float]] = defaultdict(lambda: defaultdict(float))
        for shape, counts in grown:
            for key, count in counts.items():
                sums[shape][key] += count
        kept = {}
        for shape, counts in sums.items():
            keys = tuple(counts)
            kept[shape] = _Kept(self._keys.setdefault(keys, keys), np.fromiter(counts.values(), float, len(keys)))
        self._looks.append(_Look(begin_s, end_s, kept))
        while self._looks[0].end_s <= end_s - keep_s:
            self._looks.popleft()
        if len(self._keys) > len(self._looks) * 4:  # buckets were changed
            self._keys.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._looks.clear()

    def over(self, window_s: float) -> tuple[float, dict[str, dict[Key, float]]]:
        """Seconds and growth by shape of the looks that fall into a window, at least of the last one.

        Nothing at all when there was none.
        """
        if not self._looks:
            return 0.0, {}
        last = self._looks[-1]
        chosen = [look for look in self._looks if look.begin_s >= last.end_s - window_s - 1e-6] or [last]
        sums: dict[str, dict[tuple[Key, ...], NDArray[np.float64]]] = defaultdict(dict)
        for look in chosen:
            for shape, (keys, values) in look.shapes.items():
                known = sums[shape].get(keys)
                sums[shape][keys] = values if known is None else known + values
        totals: dict[str, dict[Key, float]] = {}
        for shape, by_keys in sums.items():
            total = totals[shape] = defaultdict(float)
            for keys, values in by_keys.items():
                for key, value in zip(keys, values.tolist(), strict=True):
                    total[key] += value
        return last.end_s - chosen[0].begin_s, totals
