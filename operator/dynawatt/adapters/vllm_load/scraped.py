"""The load of services straight from their pods, where no Prometheus is given.

Every look scrapes every pod once and keeps what its counters grew by since the look
before. That is the load while somebody looks: nothing is known of the time before
the operator started, and a pod that does not answer makes the look fail, as its
requests would be missing.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Never

import httpx

from dynawatt.adapters.vllm_load.counting import Ring, growth
from dynawatt.adapters.vllm_load.histograms import added, in_order, mix_of
from dynawatt.adapters.vllm_load.page import Key, PageError, PodPage, pod_page
from dynawatt.adapters.vllm_load.queries import BUCKETS, CHANGES
from dynawatt.adapters.vllm_load.reading import arrived
from dynawatt.adapters.vllm_load.source import LoadObservation, LoadQuestion, ShapeLoad, WatchedPod
from dynawatt.ports import MetricsUnavailable
from dynawatt.workload.mix import Histogram

_MOST_BYTES: Final = 4 * 2**20
"""vLLM's page has 50 kB per engine."""
_FORGET_S: Final = 3600.0
_ATTEMPTS: Final = 2


class _Look(NamedTuple):
    time_s: float
    page: PodPage


@dataclass(slots=True)
class _Memory:
    """Of one service between two looks."""

    ring: Ring = field(default_factory=Ring)
    pods: Mapping[str, _Look] = field(default_factory=dict)
    """The last look at each, by name."""
    last_s: float | None = None


class ScrapedLoadSource:
    """A LoadSource without Prometheus. Must be asked at least once per rate window.

    Args:
        timeout_s: For one attempt at one pod.
        most_at_once: Pods that are asked at the same time, over all services.
        clock_s: Monotonic time in seconds.
        transport: Instead of the network.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 2.0,
        most_at_once: int = 32,
        clock_s: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._turns = asyncio.Semaphore(most_at_once)
        self._memories: dict[tuple[str, str], _Memory] = {}
        # Pods are not behind proxies. Connections wait for their turn with us, not in the pool.
        self._client = httpx.AsyncClient(timeout=timeout_s, trust_env=False, transport=transport)

    async def observe(self, question: LoadQuestion) -> LoadObservation:
        """Scrape all pods and say what happened since the looks before. Raises MetricsUnavailable."""
        answers = await asyncio.gather(*map(self._scrape, question.pods))
        memory = self._memory(question)
        looks = {pod.name: each for pod, each in zip(question.pods, answers, strict=True) if isinstance(each, _Look)}
        self._remember(question, memory, looks)
        for pod, answer in zip(question.pods, answers, strict=True):
            if pod.expected and isinstance(answer, str):
                raise MetricsUnavailable(f"pod {pod.name}: {answer}")
        return _observation(question, memory.ring, looks)

    async def history(self, question: LoadQuestion, *, until_s: float, slot_s: int, slots: int) -> Never:  # noqa: ARG002
        """There is none: raises MetricsUnavailable."""
        raise MetricsUnavailable("pods remember no past load: a Prometheus would, with --prometheus-url")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _remember(self, question: LoadQuestion, memory: _Memory, looks: Mapping[str, _Look]) -> None:
        now_s = self._clock_s()
        if memory.last_s is not None and now_s - memory.last_s > question.rate_window_s:
            memory.ring.clear()  # what grew since then grew over too long a time to be a rate of now
        elif memory.last_s is not None:
            grown = [
                (shape, growth(before.page, looks[pod.name].page, looks[pod.name].time_s - before.time_s))
                for shape, pods in question.shapes.items()
                for pod in pods
                if pod.name in looks and (before := memory.pods.get(pod.name))
            ]
            memory.ring.add(memory.last_s, now_s, grown, question.mix_window_s)
        memory.pods = {pod.name: memory.pods[pod.name] for pod in question.pods if pod.name in memory.pods} | {**looks}
        memory.last_s = now_s

    def _memory(self, question: LoadQuestion) -> _Memory:
        oldest_s = self._clock_s() - _FORGET_S
        self._memories = {key: each for key, each in self._memories.items() if (each.last_s or 0.0) > oldest_s}
        return self._memories.setdefault((question.namespace, question.deployment), _Memory())

    async def _scrape(self, pod: WatchedPod) -> _Look | str:
        """What the pod tells, or why it does not."""
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        url = f"http://{host}:{pod.port}/metrics"
        if not pod.address:
            return "has no address yet"
        problem = ""
        for _ in range(_ATTEMPTS):
            try:
                async with self._turns, asyncio.timeout(self._timeout_s):
                    return _Look(self._clock_s(), pod_page(await self._fetch(url)))
            except PageError as error:
                return f"{url}: {error}"
            except (TimeoutError, httpx.TimeoutException):
                problem = (
                    f"{url} did not answer within {self._timeout_s:g} s: does a NetworkPolicy keep the operator out?"
                )
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = f"{url} cannot be read: {error!r}"
        return problem

    async def _fetch(self, url: str) -> bytes:
        """The page. Raises httpx.HTTPError and PageError."""
        page = bytearray()
        async with self._client.stream("GET", url, headers={"Accept": "text/plain"}) as response:
            if response.status_code != httpx.codes.OK:
                raise PageError(f"HTTP {response.status_code}")
            async for part in response.aiter_bytes():
                page += part
                if len(page) > _MOST_BYTES:
                    raise PageError(f"more than {_MOST_BYTES // 2**20} MiB")
        return bytes(page)


def _observation(question: LoadQuestion, ring: Ring, looks: Mapping[str, _Look]) -> LoadObservation:
    rate_s, rates = ring.over(question.rate_window_s)
    recent_s, recents = ring.over(question.recent_window_s)
    _, totals = ring.over(question.mix_window_s)
    if not any(rates.values()):
        raise MetricsUnavailable(
            f"the pods of Deployment {question.deployment} were scraped for the first time: a second look tells rates"
        )
    histograms = {what: {shape: _histogram(what, counts) for shape, counts in totals.items()} for what in BUCKETS}
    total = {what: added(by_shape.values()) for what, by_shape in histograms.items()}
    loads = {}
    for shape, counts in rates.items():
        its = [look.page for pod in question.shapes.get(shape, ()) if (look := looks.get(pod.name))]
        loads[shape] = ShapeLoad(
            pods=len(its),
            rate_rps=_arrived([counts]) / rate_s,
            running=counts["running_s", 0.0] / rate_s,
            waiting=sum(page.waiting for page in its),
            kv_usage=counts["kv_usage_s", 0.0] / counts["kv_pod_s", 0.0] if counts.get(("kv_pod_s", 0.0)) else None,
            generated_tps=counts["generated", 0.0] / rate_s if ("generated", 0.0) in counts else None,
            ttft=histograms["ttft"][shape],
            tbt=histograms["tbt"][shape],
        )
    input_sum, output_sum = (
        sum(counts[what, 0.0] for counts in totals.values()) for what in ("input_sum", "output_sum")
    )
    return LoadObservation(
        rate_rps=sum(load.rate_rps for load in loads.values()),
        mix=mix_of(total["inputs"], total["outputs"], input_sum, output_sum),
        finished_requests=total["inputs"][-1][1] if total["inputs"] else 0.0,
        ttft=total["ttft"],
        tbt=total["tbt"],
        recent_rps=_arrived(list(recents.values())) / recent_s,
        recent_window_s=recent_s,
        shapes=loads,
    )


def _arrived(grown: list[Mapping[Key, float]]) -> float:
    return arrived([{what: counts[what, 0.0] for what in CHANGES} for counts in grown])


def _histogram(what: str, counts: Mapping[Key, float]) -> Histogram:
    return in_order({bound: count for (its, bound), count in counts.items() if its == what})
