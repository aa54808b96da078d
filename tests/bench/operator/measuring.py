"""What is seen of the operator from outside: its processes, its metrics, and what the API server and Prometheus say."""

import asyncio
import os
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dynawatt.adapters.prometheus import Prometheus
from dynawatt.adapters.vllm_load.in_prometheus import PrometheusLoadSource
from dynawatt.adapters.vllm_load.source import LoadObservation, LoadQuestion, WatchedPod

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Processes:
    """The operator and its children, the worker that builds surfaces among them."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def cpu_s(self) -> dict[str, float]:
        """Processor time so far, of the operator itself and of its children."""
        return self._of_each(_cpu_s)

    def memory_mb(self, field: str = "VmRSS") -> dict[str, float]:
        """Resident memory, of the operator itself and of its children; ``VmHWM`` is the highest so far."""
        return self._of_each(lambda pid: _memory_mb(pid, field))

    def _of_each(self, what: Any) -> dict[str, float]:
        found = {"operator": what(self._pid), "children": 0.0}
        for child in Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split():
            try:
                found["children"] += what(int(child))
            except OSError:  # ended meanwhile
                continue
        # Children may be started by any thread.
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            if task.name == str(self._pid):
                continue
            try:
                children = (task / "children").read_text().split()
                found["children"] += sum(what(int(child)) for child in children)
            except OSError:
                continue
        return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _memory_mb(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(field))


class Page:
    """One scrape of the operator's metrics."""

    def __init__(self, url: str) -> None:
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        self._samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def total(self, name: str, **labels: str) -> float:
        """Sum over series with these labels; 0 where there are none."""
        return sum(value for _, value in self._matching(name, labels))

    def by_service(self, name: str, **labels: str) -> dict[str, float]:
        """Values by ``namespace/name``."""
        return {f"{of['namespace']}/{of['llmservice']}": value for of, value in self._matching(name, labels)}

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Sums by the value of a label."""
        found: Counter[str] = Counter()
        for of, value in self._matching(name, {}):
            found[of[label]] += value
        return dict(found)

    def _matching(self, name: str, labels: dict[str, str]) -> list[tuple[dict[str, str], float]]:
        return [
            (of, value)
            for found, of, value in self._samples
            if found == name and all(of.get(label) == wanted for label, wanted in labels.items())
        ]


def plans_between(before: Page | None, after: Page) -> dict[str, dict[str, float]]:
    """Planning rounds in between, or since the start, for all services and for some: how many, and how long."""
    found = {}
    for scope in ("all", "some"):
        names = [f"dynawatt_plan_duration_seconds_{what}" for what in ("count", "sum")]
        rounds, took_s = (
            after.total(name, scope=scope) - (before.total(name, scope=scope) if before else 0.0) for name in names
        )
        mean_s = round(took_s / rounds, 3) if rounds else 0.0
        found[scope] = {"rounds": rounds, "took_s": round(took_s, 3), "mean_s": mean_s}
    return found


def seen_by_prometheus(url: str, namespace: str, deployment: str, pods: Sequence[str], rate_s: int) -> LoadObservation:
    """The load of a service as the operator would see it this moment."""
    watched = [WatchedPod(name) for name in pods]

    async def look() -> LoadObservation:
        source = PrometheusLoadSource(Prometheus(url))
        try:
            return await source.observe(LoadQuestion(namespace, deployment, {"all": watched}, rate_window_s=rate_s))
        finally:
            await source.close()

    return asyncio.run(look())


class Ages:
    """The oldest tick of any service and the slowest answer to a probe, over some time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.oldest_s: list[float] = []
        self.probes_s: list[float] = []

    def watch(self, seconds: float, every_s: float = 5.0) -> Page:
        """Look until the time is over; the last page."""
        until_s = time.monotonic() + seconds
        while True:
            began_s = time.monotonic()
            with urllib.request.urlopen(f"{self._url}/healthz", timeout=30) as answer:
                answer.read()
            self.probes_s.append(time.monotonic() - began_s)
            page = Page(self._url)
            self.oldest_s.append(max(page.by_service("dynawatt_reconcile_age_seconds").values(), default=0.0))
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return page
            time.sleep(min(every_s, left_s))
