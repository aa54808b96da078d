"""What the node's vLLM pods have served since the agent started, from their own counters.

The counters come from the scrape that the governor works with. They begin with
the first reading of a pod, as its joules do, and go on when its server restarts at
zero. While a pod cannot be read its totals stand still, and what it served
meanwhile is counted with the next reading: over any interval between two readings
joules and tokens belong together. What a page does not tell is None, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dynawatt.agent.arrivals import ArrivalMeter
from dynawatt.agent.metering import KEEP_S
from dynawatt.agent.view import PodServing
from dynawatt.governing.reading import PodReading
from dynawatt.ports import PodKey, Scrape

_MAX_COUNT: Final = 2.0**53
"""From there on a float cannot count: whoever shows more is wrong."""


@dataclass(slots=True)
class _Counter:
    """One counter of a server that may restart."""

    total: float | None = None
    """Since the first reading; None before it."""
    _before: float = 0.0

    def take(self, value: float | None) -> None:
        if value is None or not 0 <= value < _MAX_COUNT:  # NaN is not, either
            return
        if self.total is None:
            self.total = 0.0
        else:
            self.total += value if value < self._before else value - self._before
        self._before = value


@dataclass(slots=True)
class _Pod:
    used_s: float
    as_of_s: float
    service: str = ""
    prompt_tokens: _Counter = field(default_factory=_Counter)
    generation_tokens: _Counter = field(default_factory=_Counter)
    requests: _Counter = field(default_factory=_Counter)
    arrivals: ArrivalMeter = field(default_factory=ArrivalMeter)

    def take(self, reading: PodReading, read_s: float) -> None:
        self.as_of_s = read_s
        self.prompt_tokens.take(reading.prompt_tokens)
        self.generation_tokens.take(reading.generation_tokens)
        self.requests.take(reading.finished)
        self.arrivals.observe(reading, read_s)

    def serving(self, now_s: float) -> PodServing:
        return PodServing(
            service=self.service,
            prompt_tokens=self.prompt_tokens.total,
            generation_tokens=self.generation_tokens.total,
            requests=self.requests.total,
            arrival_dispersion=self.arrivals.dispersion(now_s),
            as_of_s=self.as_of_s,
        )


class ServingMeter:
    """Accumulates tokens and requests per pod. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._pods: dict[PodKey, _Pod] = {}

    def observe(self, scrapes: Mapping[PodKey, Scrape], services: Mapping[PodKey, str], now_s: float) -> None:
        """Take what came of asking the pods, and the LLMService, as namespace/name, of those that have one."""
        for key, scrape in scrapes.items():
            if scrape.reading is not None:
                self._pods.setdefault(key, _Pod(now_s, scrape.now_s)).take(scrape.reading, scrape.now_s)
        for key in self._pods.keys() & (scrapes.keys() | services.keys()):
            self._pods[key].used_s = now_s
            # A pod that is gone keeps the service it had, so that its last series end as they were.
            self._pods[key].service = services.get(key, "")

    def totals(self, now_s: float) -> dict[PodKey, PodServing]:
        """Every pod that was ever read, without those that ended long ago."""
        self._pods = {key: pod for key, pod in self._pods.items() if now_s - pod.used_s <= KEEP_S}
        return {key: pod.serving(now_s) for key, pod in self._pods.items()}
