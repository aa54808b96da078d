"""What people run today: a horizontal pod autoscaler on vLLM's own gauges, mostly made by KEDA.

Every guide has KEDA query Prometheus and hand the sum over all pods to Kubernetes'
HorizontalPodAutoscaler (HPA) as an external metric with an AverageValue target:

- vLLM production-stack (tutorials/20-keda-autoscaling.md, default trigger of its chart, helm/templates/
  scaledobject-vllm.yaml): ``vllm:num_requests_waiting``, threshold 5, at least 1 replica, polled every 15 s.
- llm-d (guides/workload-autoscaling/keda-epp): requests queued at the gateway, threshold 1, and requests running,
  threshold 16; the larger answer counts; 300 s of stabilisation upwards as well.
- kubernetes/examples (AI/vllm-deployment/hpa): ``vllm:num_requests_running``, 4 per pod.
- Amazon EKS (user guide, "Identify scaling metric thresholds for AI inference") load-tests one replica for its
  thresholds.

``hpa-queue`` is the first. Its metric carries nothing below saturation: an engine that keeps up has no queue,
whatever its load, so the fleet shrinks until requests wait, and they wait until new replicas are up, minutes later.
That is why the others add requests running. ``hpa-running`` does so with a threshold from a load test, because those
of the guides belong to other models.

Scaling follows the controller (pkg/controller/podautoscaler of Kubernetes: replica_calculator.go for external
metrics, horizontal.go for limits, autoscaling/v2 defaults). Readiness plays no part in external metrics: a pod that
still loads its model counts as a replica, and the queue that waits for it asks for more. Metrics are read without the
delay of scraping, in favour of this baseline.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import Final

import numpy as np

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.fleet_core import FleetSnapshot, ReplicaShape, ReplicaState
from dynawatt.simulation.load_sweep import fleet_sweep
from dynawatt.simulation.operating_point import saturation_rps
from dynawatt.simulation.policies.scaled_fleet import ScaledFleet, in_service, most_replicas, single_shape
from dynawatt.simulation.policy import FleetPlan, FleetView
from dynawatt.simulation.study import Study

HPA_QUEUE: Final = "hpa-queue"
HPA_RUNNING: Final = "hpa-running"
SYNC_S: Final = 15.0
"""Between two looks: ``--horizontal-pod-autoscaler-sync-period``."""
_TOLERANCE: Final = 0.1
"""Relative distance from the target that is put up with: ``--horizontal-pod-autoscaler-tolerance``."""
_STABILISATION_S: Final = 300.0
"""The highest recommendation of this time counts when shrinking, as Kubernetes does by default."""
_PODS_PER_SYNC: Final = 4
"""Growing may add so many pods per 15 s, or as many as there are, whichever is more."""


class Gauge(StrEnum):
    """A metric of vLLM, summed over all pods."""

    WAITING = "vllm:num_requests_waiting"
    RUNNING = "vllm:num_requests_running"


@dataclass(frozen=True, slots=True)
class Trigger:
    """Wanted are as many replicas as bring a gauge to ``target`` on average. Raises InvalidInputError."""

    gauge: Gauge
    target: float

    def __post_init__(self) -> None:
        """Check the sign."""
        if not self.target > 0:
            raise InvalidInputError(f"target {self.target} of {self.gauge}: must be above 0")

    def replicas(self, total: float, present: int) -> int:
        """Replicas wanted for this total; those there are when it is within the tolerance."""
        if present and abs(total / (self.target * present) - 1) <= _TOLERANCE:
            return present
        return ceil(total / self.target)


PRODUCTION_STACK: Final = Trigger(Gauge.WAITING, 5.0)


@dataclass(slots=True, eq=False)
class HpaPolicy(ScaledFleet):
    """A fleet under an HPA; one object is for one run."""

    triggers: Sequence[Trigger]
    """The one that wants most replicas decides."""
    _wanted: int = 0
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    """(time in s, replicas) of the last minutes."""
    _looked_s: float = 0.0

    @property
    def plan_interval_s(self) -> float:
        """The controller's."""
        return SYNC_S

    def initial(self) -> FleetPlan:
        """The tuned static fleet, and no recommendation but that one."""
        self._wanted = self.limited(self.static_replicas)
        self._recommended, self._looked_s = [(0.0, self._wanted)], 0.0
        return self.of(self._wanted)

    def plan(self, now_s: float, view: FleetView) -> FleetPlan:
        """One sync of the controller. Pods that found no room are asked for again, as they stay pending."""
        snapshot = view.snapshot()
        present = in_service(snapshot)
        asked = max(trigger.replicas(_total(trigger.gauge, snapshot), present) for trigger in self.triggers)
        self._recommended = [
            (time_s, count) for time_s, count in self._recommended if time_s > now_s - _STABILISATION_S
        ]
        self._recommended.append((now_s, asked))
        highest = max(count for _, count in self._recommended)
        limit = self._wanted
        # Slot by slot it is asked less often than it would look.
        for _ in range(max(1, round((now_s - self._looked_s) / SYNC_S))):
            limit = max(2 * limit, limit + _PODS_PER_SYNC)
        self._looked_s = now_s
        self._wanted = self.limited(min(max(self._wanted, asked), highest, limit))
        return self.of(self._wanted)


def _total(gauge: Gauge, snapshot: FleetSnapshot) -> float:
    """What Prometheus sums up over the pods that serve."""
    values = snapshot.waiting if gauge is Gauge.WAITING else snapshot.running
    return float(np.sum(values[snapshot.state == ReplicaState.SERVING]))


def hpa_queue(name: str, study: Study) -> HpaPolicy:
    """On the queue alone, with the values of vLLM's production-stack."""
    return _hpa(name, study, single_shape(study), (PRODUCTION_STACK,))


def hpa_running(name: str, study: Study) -> HpaPolicy:
    """On the queue, and on running requests with what a load test of one replica allows."""
    shape = single_shape(study)
    return _hpa(name, study, shape, (PRODUCTION_STACK, Trigger(Gauge.RUNNING, load_test_concurrency(study, shape))))


def load_test_concurrency(study: Study, shape: ReplicaShape) -> float:
    """Requests in progress per replica at the highest load that the tuned static fleet carries within the SLO.

    By Little's law: arrival rate times mean time from arrival to the last token. Raises InvalidInputError when it
    carries none.
    """
    demand, replicas = study.demand(), study.single_replicas
    clock_mhz = shape.replica.gpu.default_clock_mhz
    sweep = fleet_sweep(
        shape,
        demand.objectives,
        demand.load(replicas),
        replicas=replicas,
        clock_mhz=clock_mhz,
        limit_rps=saturation_rps(shape, demand.mix, clock_mhz),
    )
    rate_rps = sweep.bracket(demand.percentile)
    if rate_rps <= 0:
        raise InvalidInputError(
            f"SLO of {demand.percentile:.1%}: a replica of {shape.replica.name} misses it under any load; "
            "loosen the objectives or choose more GPUs per replica"
        )
    point = sweep.at(rate_rps)
    return rate_rps * (point.ttft_mean_s + (float(demand.mix.output_tokens.mean()) - 1) * point.tbt_mean_s)


def _hpa(name: str, study: Study, shape: ReplicaShape, triggers: Sequence[Trigger]) -> HpaPolicy:
    return HpaPolicy(name, shape, study.single_replicas, most_replicas(study, shape), triggers)
