"""What is asked about the load of a service, and what is answered: by Prometheus, or by the pods themselves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dynawatt.workload.mix import Histogram, LengthMix

_SURE: Final = 3.0
"""Standard deviations of a Poisson count: one time in a thousand there are fewer by chance."""


class WatchedPod(NamedTuple):
    """A pod whose requests count as load of the service: one that serves, or one that is still draining."""

    name: str
    address: str = ""
    """Its IP; needed to scrape it, and where Prometheus names targets by address only."""
    port: int = 8000
    """Where vLLM listens."""
    expected: bool = True
    """It has been Ready for longer than the rate window, so that to know nothing of it is a failure."""


@dataclass(frozen=True, slots=True)
class LoadQuestion:
    """One look at a service."""

    namespace: str
    deployment: str
    """The user's own; those of further shapes are called the same with six hexadecimal digits behind."""
    shapes: Mapping[str, Sequence[WatchedPod]]
    """Every pod that counts, by the name of its shape. No others do, whatever they are called."""
    rate_window_s: int = 120
    """Several scrapes long."""
    mix_window_s: int = 600
    """Of all histograms."""
    max_age_s: float = 60.0
    """What was scraped longer ago says nothing about now."""

    @property
    def pods(self) -> list[WatchedPod]:
        """Of all shapes."""
        return [pod for pods in self.shapes.values() for pod in pods]

    @property
    def recent_window_s(self) -> int:
        """A third of the rate window, so that a burst is seen while it is short."""
        return max(1, self.rate_window_s // 3)


@dataclass(frozen=True, slots=True)
class ShapeLoad:
    """What the pods of one shape had to do."""

    pods: int
    """That were seen."""
    rate_rps: float
    """Requests per second that arrived, over the rate window."""
    running: float
    """Mean number of requests in execution over that window, all pods together."""
    waiting: float
    """Now."""
    kv_usage: float | None
    """Mean fraction of the KV caches in use, each taken at its fullest engine; None where it is not told."""
    generated_tps: float | None
    """Output tokens per second over the rate window; None where it is not told."""
    ttft: Histogram
    tbt: Histogram
    """Over the mix window, in seconds."""


@dataclass(frozen=True, slots=True)
class LoadObservation:
    """What was seen of a service."""

    rate_rps: float
    """Arriving requests per second, averaged over the rate window."""
    mix: LengthMix | None
    """Lengths of finished requests; None before the first."""
    finished_requests: float
    """How many the mix was taken from."""
    ttft: Histogram
    tbt: Histogram
    """Cumulative counts by upper bound in seconds, over the mix window."""
    recent_rps: float | None = None
    """Over the last third of the rate window; None where it holds too few scrapes."""
    recent_window_s: float = 0.0
    age_s: float = 0.0
    """Of the newest sample."""
    shapes: Mapping[str, ShapeLoad] = field(default_factory=dict)
    """By the names that were asked with; shapes of which no pod was seen are missing."""

    @property
    def burst_rps(self) -> float:
        """The load that is surely there by now, even if the rate window does not tell yet.

        The recent count less three standard deviations of a Poisson count, so that a steady load is no burst.
        """
        if self.recent_rps is None:
            return self.rate_rps
        count = self.recent_rps * self.recent_window_s
        sure = count - _SURE * math.sqrt(count)
        return max(self.rate_rps, sure / self.recent_window_s) if self.recent_window_s > 0 else self.rate_rps

    @property
    def running(self) -> float:
        """Mean number of requests in execution over the rate window."""
        return sum(shape.running for shape in self.shapes.values())

    @property
    def waiting(self) -> float:
        """Requests that wait now."""
        return sum(shape.waiting for shape in self.shapes.values())

    @property
    def kv_usage(self) -> float | None:
        """Mean over all pods that tell."""
        told = [(shape.kv_usage, shape.pods) for shape in self.shapes.values() if shape.kv_usage is not None]
        return sum(usage * pods for usage, pods in told) / sum(pods for _, pods in told) if told else None

    @property
    def generated_tps(self) -> float | None:
        """Output tokens per second; None when a shape does not tell."""
        told = [shape.generated_tps for shape in self.shapes.values() if shape.generated_tps is not None]
        return sum(told) if told and len(told) == len(self.shapes) else None


class LoadSource(Protocol):
    """Whoever can tell the load of services."""

    async def observe(self, question: LoadQuestion) -> LoadObservation:
        """Look at a service now. Raises MetricsUnavailable, which says what to do about it."""
        ...

    async def history(
        self, question: LoadQuestion, *, until_s: float, slot_s: int, slots: int
    ) -> tuple[float, NDArray[np.float64]]:
        """Requests of a service by slot, as far back as is known, for a forecast to learn from.

        Returns the Unix time at which the first slot begins and one count per slot, NaN where nothing is known.
        Raises MetricsUnavailable.
        """
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
