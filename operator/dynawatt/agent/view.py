"""What one cycle saw and did, as data: the exporter and the GPUNode status are made from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dynawatt.agent.enforcing import ClockRange, Commanded, Refusal
from dynawatt.agent.governing import Governed
from dynawatt.agent.lease import LeaseState
from dynawatt.agent.metering import EnergyKey
from dynawatt.ports import PodKey

HOLD_S: Final = 10.0
"""How long clocks stay as they are while it is not known which pod holds which GPU: a kubelet restarts within that."""


@dataclass(frozen=True, slots=True)
class GpuView:
    """One GPU at the end of a cycle."""

    uuid: str
    product: str
    supported_mhz: tuple[int, ...] | None
    """Ascending; None while the GPU could not say."""
    pods: tuple[PodKey, ...]
    """More than one when the GPU is shared."""
    commanded: Commanded
    claim: ClockRange | None
    """Within which it is governed, as far as it supports the claim; None without one that is honoured."""
    clock_mhz: float | None
    """None when it could not be read; the same for ``power_w``."""
    power_w: float | None


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node at the end of a cycle."""

    gpus: tuple[GpuView, ...]
    energy_j: Mapping[EnergyKey, float]
    command_failures: Mapping[str, int]
    cycle_failures: int
    lease: LeaseState
    claims: int
    """Pods with a claim, valid or not."""
    refusals: Mapping[PodKey, Refusal]
    governed: Mapping[PodKey, Governed]
    """Of every pod with a valid claim, while the Lease is fresh."""
    scrape_failures: int
    """How often a pod that serves could not be read."""
    allocations_problem: str
    """Why it is not known which pod holds which GPU; empty when it is."""
    cycle_s: float
    """How long the cycle took."""
    finished_unix_s: float
    """When it ended, in seconds since 1970."""
    stopped: bool = False
    """The agent ended and reset its GPUs."""
