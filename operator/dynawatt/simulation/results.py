"""What a simulated policy gave: energy under both conventions, latencies, and how the fleet moved."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from dynawatt.quantities import S_PER_HOUR
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policy import Group
from dynawatt.simulation.series import Series
from dynawatt.simulation.tally import Tally


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """One policy's run. Every request counts, also those that were never served."""

    name: str
    shapes: tuple[ReplicaShape, ...]
    servers: int
    """Inventory that the policy pays for."""
    duration_s: float
    """From the first second to the horizon, or to the end of the last request if that is later."""
    percentile: float
    tally: Tally
    series: Series
    initial: Mapping[Group, int]
    """Replicas that served from the first second on."""
    reconfigurations: int
    """Replicas started or drained after the beginning."""
    clock_changes: int
    refused_plans: int

    @property
    def energy_off_j(self) -> float:
        """All GPUs that replicas hold; released ones are off."""
        return float(self.tally.energy_j.sum())

    @property
    def energy_idling_j(self) -> float:
        """The same, and the released GPUs of the inventory idle."""
        released_gpu_s = max(0.0, self.servers * GPUS_PER_SERVER * self.duration_s - self.tally.gpu_s)
        return self.energy_off_j + released_gpu_s * self.shapes[0].replica.released_w

    @property
    def j_per_token(self) -> float | None:
        """Idling convention, per generated token; None without any."""
        return self.energy_idling_j / self.tally.output_tokens if self.tally.output_tokens else None

    @property
    def gpu_hours(self) -> float:
        """Held by replicas."""
        return self.tally.gpu_s / S_PER_HOUR

    @property
    def requests(self) -> int:
        """All that arrived."""
        return int(self.tally.requests.sum())

    @property
    def unfinished_requests(self) -> int:
        """Arrived and not ended, for want of capacity or of KV cache."""
        return self.requests - int(self.tally.finished.sum())

    def ttft_quantile_s(self, quantile: float) -> float:
        """Quantile of the times to first token over all requests that arrived; nan without any.

        Infinite where it falls on a request that never got a first token: leaving those out would make a fleet look the
        better, the more of them it leaves waiting.
        """
        served = int(self.tally.ttft_histogram.sum())
        rank = quantile * self.requests
        return inf if rank > served else self.tally.ttft_quantile_s(rank / served if served else quantile)

    def initial_replicas(self, shape: int) -> int:
        """Those of one shape, over all pools."""
        return sum(count for group, count in self.initial.items() if group.shape == shape)

    @property
    def slo_met(self) -> bool:
        """Whether both attainments over all requests and gaps reach the percentile."""
        return min(self.tally.ttft_attainment(), self.tally.tbt_attainment()) >= self.percentile / 100

    def saving_against(self, baseline: "PolicyResult") -> float:
        """Part of the baseline's energy that this one does without, idling convention."""
        return 1.0 - self.energy_idling_j / baseline.energy_idling_j
