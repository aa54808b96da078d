"""What one cycle saw and did, as data: the exporter and the GPUNode status are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dynawatt.agent.enforcing import ClockRange, Commanded
from dynawatt.agent.governing import Governed
from dynawatt.agent.lease import LeaseState
from dynawatt.agent.metering import EnergyKey
from dynawatt.agent.refusal import Refusal
from dynawatt.ports import ClockMethod, EnergySource, GpuHealth, GpuReading, PodKey

HOLD_S: Final = 10.0
"""How long clocks stay as they are while it is not known which pod holds which GPU: a kubelet restarts within that."""
HEALTH_PERIOD_S: Final = 10.0
"""How often modes and error counts are read."""


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU at the end of a cycle."""

    uuid: str
    product: str
    supported_mhz: tuple[int, ...] | None
    """Ascending; None while the GPU could not say."""
    clock_method: ClockMethod
    energy_source: EnergySource
    pods: tuple[PodKey, ...]
    """More than one when the GPU is shared."""
    energy_only: Refusal | None
    """Why its clock is left alone for as long as it is used as it is; None when it could be governed."""
    commanded: Commanded
    claim: ClockRange | None
    """Within which it is governed, as far as it supports the claim; None without one that is honoured."""
    reading: GpuReading | None
    """None when the GPU did not answer."""
    health: GpuHealth | None
    """As last read, at most HEALTH_PERIOD_S ago; None while the GPU does not answer."""


@dataclass(frozen=True, slots=True)
class PodServing:
    """What a vLLM pod that holds GPUs has done since the agent started, from its own counters."""

    service: str
    """The LLMService as namespace/name; empty without a claim."""
    prompt_tokens: float | None
    """None when the pod does not tell; the same for the next two."""
    generation_tokens: float | None
    requests: float | None
    """Finished."""
    arrival_dispersion: float | None
    """Variance over mean of arrivals per second, in the last minutes: 1 for Poisson; None while too few came."""
    as_of_s: float
    """When it was last read, on the monotonic clock."""


class ClockCommand(StrEnum):
    """What may be asked of a driver."""

    LOCK = "lock"
    RESET = "reset"
    SUPPORTED_CLOCKS = "supported_clocks"


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node at the end of a cycle."""

    gpus: tuple[GpuView, ...]
    energy_j: Mapping[EnergyKey, float]
    """Joules by GPU and pod; those of a node are their sum. NOBODY has what is idle or shared, GONE what pods used
    that ended long ago."""
    serving: Mapping[PodKey, PodServing]
    """Of every vLLM pod whose metrics were read; kept for as long as its energy is."""
    command_failures: Mapping[tuple[ClockCommand, str], int]
    """How many commands failed since the start, by command and ``GpuError.reason``."""
    commands: int
    """How many lock and reset calls were made since the start."""
    snapped: int
    """Claims that asked for clocks which their GPUs do not have, counted once per claim."""
    cycle_failures: int
    lease: LeaseState
    switched_off: str
    """What the cluster-wide switch says when it is off; empty when it is on."""
    claims: int
    """Pods with a claim, valid or not."""
    refusals: Mapping[PodKey, Refusal]
    governed: Mapping[PodKey, Governed]
    """Of every pod with a valid claim, while claims hold."""
    scrape_failures: int
    """How often a pod that serves could not be read."""
    allocations_problem: str
    """Why it is not known which pod holds which GPU; empty when it is."""
    journal_problem: str
    """Why the journal cannot be written, which forbids new locks; empty when it can."""
    cycle_s: float
    """How long the cycle took."""
    finished_unix_s: float
    """When it ended, in seconds since 1970."""
    stopped: bool = False
    """The agent ended and reset its GPUs."""
