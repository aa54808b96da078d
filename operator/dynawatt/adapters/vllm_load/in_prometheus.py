"""The load of services from Prometheus: two queries per look, whatever the number of pods and shapes."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dynawatt.adapters.vllm_load import reading
from dynawatt.adapters.vllm_load.histograms import slot_row
from dynawatt.adapters.vllm_load.queries import arrivals_query, flow_query, histogram_query, work_query
from dynawatt.adapters.vllm_load.reading import Flow, Shapes
from dynawatt.adapters.vllm_load.scope import Scope, find_scope
from dynawatt.adapters.vllm_load.source import LoadObservation, LoadQuestion, WatchedPod
from dynawatt.adapters.vllm_load.working import PodWork, work_from
from dynawatt.ports import MetricsSource, MetricsUnavailable

_FORGET_S: Final = 3600.0


class _Seen(NamedTuple):
    """A pod that was asked about."""

    pod: WatchedPod
    shape: str
    last_s: float


@dataclass(slots=True)
class _Memory:
    """Of one service between two looks; nothing of it is needed to restart."""

    scope: Scope | None = None
    pods: Mapping[str, _Seen] = field(default_factory=dict)
    used_s: float = 0.0


class PrometheusLoadSource:
    """A LoadSource over a Prometheus. It asks twice per look, and once more to find out how series are labelled.

    Args:
        metrics: Is closed with this.
        clock_s: Monotonic time in seconds.
    """

    def __init__(self, metrics: MetricsSource, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock_s = clock_s
        self._memories: dict[tuple[str, str], _Memory] = {}

    async def observe(self, question: LoadQuestion) -> LoadObservation:
        """Look at a service now. Raises MetricsUnavailable.

        Pods that are gone go on counting until the rate window has passed, or the load would seem to go with them.
        """
        memory = self._memory(question)
        scope, shapes, flows = await self._flows(question, memory)
        reading.check(question, scope, flows)
        query = histogram_query(scope, question.namespace, shapes, question.mix_window_s)
        return reading.observation(question, scope, shapes, flows, await self._metrics.query(query))

    async def history(
        self, question: LoadQuestion, *, until_s: float, slot_s: int, slots: int
    ) -> tuple[float, NDArray[np.float64]]:
        """Counted at the first token, over all shapes there ever were. Raises MetricsUnavailable."""
        memory = self._memory(question)
        scope = memory.scope = memory.scope or await find_scope(self._metrics, question)
        if scope.is_by_address:
            raise MetricsUnavailable(
                "series tell their pods by address alone, which says nothing of the past: let the scrape configuration "
                "set the label pod from __meta_kubernetes_pod_name"
            )
        end_s = math.floor(until_s / slot_s) * slot_s
        start_s = end_s - slots * slot_s
        query = arrivals_query(scope, question.namespace, question.deployment, slot_s)
        series = await self._metrics.query_range(query, start_s + slot_s, end_s, slot_s)
        return float(start_s), slot_row(series, start_s, slots, slot_s)

    async def work(self, question: LoadQuestion, window_s: int) -> Mapping[str, PodWork]:
        """What each of these pods did over the last so many seconds, by name. Raises MetricsUnavailable."""
        memory = self._memory(question)
        scope = memory.scope = memory.scope or await find_scope(self._metrics, question)
        query = work_query(scope, question.namespace, question.pods, window_s)
        return work_from(await self._metrics.query(query), question, scope)

    async def close(self) -> None:
        """Close the connections."""
        await self._metrics.close()

    async def _flows(self, question: LoadQuestion, memory: _Memory) -> tuple[Scope, Shapes, Mapping[str, Flow]]:
        """What the pods do, found by labels that are looked for anew when pods are missing."""
        known = memory.scope
        if known is not None:
            shapes, flows = await self._ask(question, memory, known)
            if not reading.absent(question, known, flows):
                return known, shapes, flows
        scope = memory.scope = await find_scope(self._metrics, question)
        if scope != known:
            shapes, flows = await self._ask(question, memory, scope)
        return scope, shapes, flows

    async def _ask(self, question: LoadQuestion, memory: _Memory, scope: Scope) -> tuple[Shapes, Mapping[str, Flow]]:
        shapes = self._shapes(question, memory, scope)
        pods = [pod for each in shapes.values() for pod in each]
        query = flow_query(scope, question.namespace, pods, question.rate_window_s, question.recent_window_s)
        return shapes, reading.flows_from(await self._metrics.query(query), scope)

    def _shapes(self, question: LoadQuestion, memory: _Memory, scope: Scope) -> Shapes:
        """The pods to ask about, those included that were there a short while ago."""
        now_s = self._clock_s()
        shapes = {shape: list(pods) for shape, pods in question.shapes.items() if pods}
        seen = {pod.name: _Seen(pod, shape, now_s) for shape, pods in shapes.items() for pod in pods}
        if not scope.is_by_address:  # where a pod was, another may be
            for name, each in memory.pods.items():
                if name not in seen and now_s - each.last_s <= question.rate_window_s:
                    shapes.setdefault(each.shape, []).append(each.pod._replace(expected=False))
                    seen[name] = each
        memory.pods = seen
        return shapes

    def _memory(self, question: LoadQuestion) -> _Memory:
        now_s = self._clock_s()
        self._memories = {key: each for key, each in self._memories.items() if now_s - each.used_s < _FORGET_S}
        memory = self._memories.setdefault((question.namespace, question.deployment), _Memory())
        memory.used_s = now_s
        return memory
