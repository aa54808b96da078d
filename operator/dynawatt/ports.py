"""The Protocols that the drivers of the pure code need from the outside world.

Adapters implement them for real clusters and GPUs, the sandbox for simulated
ones; controller and agent know nothing else. Implementations may block: async
callers put them on a thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

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

    reason: ClassVar[str] = "Other"
    """One CamelCase word for metrics and conditions."""


class GpuNotSupportedError(GpuError):
    """This GPU or driver cannot do it; asking again is in vain."""

    reason = "NotSupported"


class GpuPermissionError(GpuError):
    """The driver lets only root do it."""

    reason = "NoPermission"


class GpuLostError(GpuError):
    """The GPU fell off the bus or needs a reset."""

    reason = "GPULost"


class GpuTimeoutError(GpuError):
    """The driver did not answer in time; the call may still take effect later."""

    reason = "Timeout"


class EnergySource(StrEnum):
    """Where joules come from."""

    COUNTER = "counter"
    """The GPU's own energy counter."""
    INTEGRATED = "integrated"
    """Power times time, for GPUs without a counter."""


class ClockMethod(StrEnum):
    """How the SM clock of a GPU is set."""

    LOCKED_CLOCKS = "LockedClocks"
    """A range that holds until it is reset."""
    APPLICATIONS_CLOCKS = "ApplicationsClocks"
    """A single clock, deprecated since CUDA 13."""
    NONE = "None"
    """It cannot be set."""


class GpuReading(NamedTuple):
    """What changes by the second; None is what could not be read."""

    clock_mhz: float | None
    power_w: float | None
    """Of the board."""
    energy_j: float | None
    """Since the driver was loaded, or since the first reading; a decrease means that the driver restarted."""
    temperature_c: float | None
    throttling: frozenset[str] | None
    """Why the clock is below what was asked for, as in ``sw_power_cap``, ``hw_slowdown``; empty when it is not."""


class GpuHealth(NamedTuple):
    """What changes rarely; None is what this GPU does not tell."""

    mig: bool = False
    """Partitioned, or about to be: its clock belongs to several."""
    persistence: bool | None = None
    """Without it the driver forgets clocks when its last client ends."""
    compute_mode: str | None = None
    """``Default``, ``ExclusiveProcess`` or ``Prohibited``."""
    ecc_corrected: int | None = None
    """Errors since the driver was loaded."""
    ecc_uncorrected: int | None = None
    rows_remapped: int | None = None
    row_remap_pending: bool | None = None
    row_remap_failed: bool | None = None
    xids: Mapping[int, int] = MappingProxyType({})
    """Critical XID errors since the agent started: how often by number."""


class GpuDevice(Protocol):
    """One physical (or simulated) GPU. No call takes longer than its bound, whatever the driver does."""

    @property
    def uuid(self) -> str:
        """Stable identity, ``GPU-...``; never the index."""
        ...

    @property
    def product(self) -> str:
        """Marketing name as the driver gives it."""
        ...

    @property
    def clock_method(self) -> ClockMethod:
        """How its clock is set, as far as is known: a refusal may change it."""
        ...

    @property
    def energy_source(self) -> EnergySource:
        """Where its joules come from."""
        ...

    def supported_clocks_mhz(self) -> Sequence[int]:
        """SM clocks it can be set to, ascending, in MHz; empty when they cannot be set. Raises GpuError."""
        ...

    def lock_clocks(self, min_mhz: int, max_mhz: int) -> None:
        """Keep the SM clock within a range of supported clocks until reset. Raises GpuError."""
        ...

    def reset_clocks(self) -> None:
        """Return to the default clock; harmless when nothing is locked. Raises GpuError."""
        ...

    def read(self) -> GpuReading:
        """Clock, power and energy now. Raises GpuError when the GPU as a whole does not answer."""
        ...

    def health(self) -> GpuHealth:
        """Modes and error counts now. Raises GpuError when the GPU as a whole does not answer."""
        ...


class HeldDevice(NamedTuple):
    """A GPU, or a part of one, that a pod holds, as the kubelet tells it."""

    pod: PodKey
    resource: str
    """As in ``nvidia.com/gpu``; the driver's name for a device of a resource claim."""
    device_id: str
    """Whatever the device plug-in calls it: a UUID, an index, a MIG or a time slice."""
    dynamic: bool = False
    """Allocated by a resource claim (DRA)."""


class AllocationsUnavailable(Exception):  # noqa: N818 - a state of the world, named like the condition it becomes
    """The GPU allocation of pods could not be read: unlike an empty answer, nothing may be concluded from it."""


class PodAllocations(Protocol):
    """Which pod holds which GPU of this node."""

    def held_devices(self) -> Sequence[HeldDevice]:
        """Devices of every pod on this node, GPUs only. Raises AllocationsUnavailable."""
        ...


class ScrapeTarget(NamedTuple):
    """Where a pod serves its metrics, and what to count in them."""

    address: str
    port: int
    tbt_s: float | None
    """Objective of gaps between tokens; None when they are not judged."""
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


@dataclass(frozen=True, slots=True)
class RangeSeries:
    """One series of a range query."""

    labels: Mapping[str, str]
    values: Sequence[tuple[float, float]]
    """(Unix time, value) ascending; steps without a value are missing, values may be NaN."""


class MetricsSource(Protocol):
    """A Prometheus-compatible store of metrics."""

    async def query(self, promql: str) -> Sequence[Sample]:
        """Evaluate an instant query now. Raises MetricsUnavailable; an empty answer is an empty list."""
        ...

    async def query_range(self, promql: str, start_s: float, end_s: float, step_s: float) -> Sequence[RangeSeries]:
        """Evaluate a query at every step from start to end, both in Unix time. Raises MetricsUnavailable likewise."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...
