"""The Protocols that the drivers of the pure code need from the outside world.

Adapters implement them for real clusters and GPUs, the sandbox for simulated
ones; controller and agent know nothing else. Implementations may block: async
callers put them on a thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from dynawatt.governing.reading import PodReading


class PodKey(NamedTuple):
    """A pod by namespace and name."""

    namespace: str
    name: str

    def __str__(self) -> str:
        """Render as kubectl users write it."""
        return f"{self.namespace}/{self.name}"


class GpuError(Exception):
    """A GPU could not be read or controlled; the message says which and why."""


class GpuDevice(Protocol):
    """One physical (or simulated) GPU."""

    @property
    def uuid(self) -> str:
        """Stable identity, ``GPU-...``; never the index."""
        ...

    @property
    def product(self) -> str:
        """Marketing name as the driver gives it."""
        ...

    def supported_clocks_mhz(self) -> Sequence[int]:
        """SM clocks the GPU can be locked to, ascending, in MHz. Raises GpuError."""
        ...

    def lock_clocks(self, min_mhz: int, max_mhz: int) -> None:
        """Keep the SM clock within a range of supported clocks until reset. Raises GpuError."""
        ...

    def reset_clocks(self) -> None:
        """Return to the default clock; harmless when nothing is locked. Raises GpuError."""
        ...

    def sm_clock_mhz(self) -> float:
        """Current SM clock in MHz. Raises GpuError."""
        ...

    def power_w(self) -> float:
        """Current board power in W. Raises GpuError."""
        ...

    def energy_j(self) -> float:
        """Energy since the driver was loaded, in J; a decrease means the driver restarted. Raises GpuError."""
        ...


class AllocationsUnavailable(Exception):  # noqa: N818 - a state of the world, named like the condition it becomes
    """The GPU allocation of pods could not be read: unlike an empty answer, nothing may be concluded from it."""


class PodAllocations(Protocol):
    """Which pod holds which GPU of this node."""

    def gpus_by_pod(self) -> Mapping[PodKey, Sequence[str]]:
        """GPU UUIDs of every pod on this node. Raises AllocationsUnavailable."""
        ...


class ScrapeTarget(NamedTuple):
    """Where a pod serves its metrics, and what to count in them."""

    address: str
    port: int
    tbt_s: float
    """Objective of gaps between tokens."""
    ttft_s: float | None
    """Objective of first tokens; None when they are not judged."""


class Scrape(NamedTuple):
    """What came of asking a pod."""

    now_s: float
    """When it had answered, on a monotonic clock."""
    reading: PodReading | None
    problem: str
    """Why nothing, or not all, is known; empty when it is."""


class PodMetrics(Protocol):
    """The metrics of a node's own pods, straight from them."""

    def read(self, targets: Mapping[PodKey, ScrapeTarget]) -> Mapping[PodKey, Scrape]:
        """Ask all at once; takes well below a second and raises nothing. Every target has an answer."""
        ...


class MetricsUnavailable(Exception):  # noqa: N818 - see above
    """A metrics query failed; the message names the query and the cause."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of an instant query."""

    labels: Mapping[str, str]
    value: float
    """May be NaN, as Prometheus gives it."""


class MetricsSource(Protocol):
    """A Prometheus-compatible store of metrics."""

    async def query(self, promql: str) -> Sequence[Sample]:
        """Evaluate an instant query now. Raises MetricsUnavailable; an empty answer is an empty list."""
        ...
