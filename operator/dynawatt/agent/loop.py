"""The agent's loop: observe, govern, act, measure, once a second.

Safety does not depend on a cycle going well. Whether any claim holds is judged
first, from memory alone; when none does the GPUs are reset before anything else
is asked for; and a cycle that breaks later on is logged and counted while the
Lease goes on ageing. However the loop ends, every GPU that it locked is brought
back to its default clocks.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.claims import NodeClaims, PodClaim, read_claims
from dynawatt.agent.enforcing import ClockRange, Wanted, decide
from dynawatt.agent.governing import Governed, PodGovernors
from dynawatt.agent.ownership import Ownership
from dynawatt.agent.owning import OwnershipReader
from dynawatt.agent.pods import PodFacts, pod_facts
from dynawatt.agent.refusal import Refusal
from dynawatt.agent.sensing import Sensors
from dynawatt.agent.serving import ServingMeter
from dynawatt.agent.snapping import SnapCount
from dynawatt.agent.standing import Judge, Known, Standing
from dynawatt.agent.view import GpuView, NodeView
from dynawatt.ports import GpuHealth, GpuReading, PodAllocations, PodKey, PodMetrics, Scrape, ScrapeTarget

PERIOD_S: Final = 1.0
_MISSED_CYCLES: Final = 3
_CLAIMS_MAX_AGE_S: Final = 180.0  # twice the silence after which the pods are listed anew

_log = logging.getLogger(__name__)


class ClusterView(Protocol):
    """What the agent knows of the cluster, from memory: none of this may block."""

    def pods(self) -> Iterable[Mapping[str, Any]] | None:
        """Pods of this node as the API gives them; None before they were first listed."""
        ...

    def pods_age_s(self) -> float:
        """Seconds since the API last confirmed them."""
        ...

    def lease(self) -> Known:
        """Whether anything is known of the operator's Lease, and the Lease if it exists."""
        ...

    def switch(self) -> Known:
        """The same of the ConfigMap that switches dynawatt off."""
        ...


@dataclass(frozen=True, slots=True)
class _Pods:
    """The node's pods as the API gives them."""

    facts: Mapping[PodKey, PodFacts] | None
    claims: NodeClaims | None
    """None while they are not known; then everything is held."""


class Agent:
    """Governs the GPUs of one node; see the module.

    Args:
        actuator: The GPUs and what they are set to.
        allocations: Which pod holds which GPU.
        pod_metrics: What the node's vLLM pods tell of themselves.
        cluster: Pods, Lease and switch.
        lease_name: The Lease that claims must name, as namespace/name.
        publish: Takes the view of every cycle; must be quick.
        clock_s: Monotonic time in seconds.
        unix_s: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        actuator: Actuator,
        allocations: PodAllocations,
        pod_metrics: PodMetrics,
        cluster: ClusterView,
        lease_name: str,
        publish: Callable[[NodeView], None],
        clock_s: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._actuator = actuator
        self._pod_metrics = pod_metrics
        self._cluster = cluster
        self._lease_name = lease_name
        self._publish = publish
        self._clock_s = clock_s
        self._unix_s = unix_s
        self._judge = Judge()
        self._sensors = Sensors(actuator.devices, clock_s=clock_s)
        self._serving = ServingMeter()
        self._governors = PodGovernors()
        self._unread: Mapping[PodKey, str] = {}
        self._scrape_failures = 0
        self._owners = OwnershipReader(allocations, clock_s=clock_s)
        self._owned = Ownership()
        self._granted: Mapping[PodKey, ClockRange] = {}
        self._told: Mapping[PodKey, Refusal] = {}
        self._snaps = SnapCount()
        self._cycle_failures = 0
        self._view: NodeView | None = None
        self._heartbeat_s = clock_s()

    def run(self, stop: threading.Event) -> None:
        """Cycle once a second until ``stop`` is set, then reset every GPU that may be locked."""
        try:
            self._actuator.reset_all("the agent starts")
            while not stop.is_set():
                started_s = self._clock_s()
                self.cycle()
                stop.wait(max(0.0, started_s + PERIOD_S - self._clock_s()))
        finally:
            self._actuator.reset_all("the agent stops")
            if self._view is not None:
                gpus = tuple(replace(gpu, commanded=self._actuator.commanded(gpu.uuid)) for gpu in self._view.gpus)
                self._publish(replace(self._view, gpus=gpus, stopped=True))

    def unhealthy(self) -> str:
        """What is wrong when three cycles were missed; empty otherwise. May be called from any thread."""
        age_s = self._clock_s() - self._heartbeat_s
        return f"the last complete cycle ended {age_s:.0f} s ago" if age_s > _MISSED_CYCLES * PERIOD_S else ""

    def cycle(self) -> None:
        """One round; raises nothing that its own part of the work raises: only what the cluster view does."""
        started_s = self._clock_s()
        standing = self._judge.judge(lease=self._cluster.lease(), switch=self._cluster.switch(), now_s=started_s)
        try:
            if standing.barred:
                self._actuator.reset_all(standing.barred.message)
            view = self._govern(standing, started_s)
            self._heartbeat_s = self._clock_s()
        except Exception:
            _log.exception("cycle failed")
            self._cycle_failures += 1
            if self._view is None:
                return
            view = replace(self._view, cycle_failures=self._cycle_failures)
        self._view = view
        self._publish(view)

    def _govern(self, standing: Standing, started_s: float) -> NodeView:
        pods = self._read_pods()
        claims = pods.claims
        valid = claims.valid if claims else {}
        governed = self._choose_clocks(pods, {} if standing.barred else valid)
        health = self._sensors.read_health()
        ownership = self._owners.read(pods.facts, mig=self._sensors.mig())
        if self._owners.lost:
            self._actuator.reset_all("which pod holds which GPU is not known any more")
        decision = decide(
            gpus=self._actuator.states(),
            ownership=ownership,
            claims=None if claims is None else _wanted(valid, governed),
            barred=standing.barred,
        )
        if not standing.barred:  # all were reset above otherwise
            self._actuator.carry_out(decision)
        if claims is not None:
            self._snaps.take(valid, decision.granted)
        refusals = {**decision.refusals, **(claims.invalid if claims else {})}
        self._tell(refusals)
        if ownership is not None:
            self._owned, self._granted = ownership, decision.granted
        readings = self._sensors.read(self._owned.holders, restarted=self._actuator.forget)
        return NodeView(
            gpus=tuple(
                self._gpu_view(uuid, reading=readings[uuid], health=health[uuid]) for uuid in self._actuator.devices
            ),
            energy_j=self._sensors.totals_j(),
            serving=self._serving.totals(self._clock_s()),
            command_failures=self._actuator.failures(),
            commands=self._actuator.calls,
            snapped=self._snaps.total,
            cycle_failures=self._cycle_failures,
            lease=standing.lease,
            switched_off=standing.switched_off,
            claims=len(claims.valid) + len(claims.invalid) if claims else 0,
            refusals=refusals,
            governed=governed,
            scrape_failures=self._scrape_failures,
            allocations_problem=self._owners.problem,
            journal_problem=self._actuator.journal_problem,
            cycle_s=self._clock_s() - started_s,
            finished_unix_s=self._unix_s(),
        )

    def _read_pods(self) -> _Pods:
        pods = self._cluster.pods()
        if pods is None:
            return _Pods(None, None)
        if self._cluster.pods_age_s() > _CLAIMS_MAX_AGE_S:
            # Somebody may have taken a claim back without our hearing of it, even though the Lease is renewed.
            return _Pods(None, NodeClaims())
        pods = list(pods)
        return _Pods(pod_facts(pods), read_claims(pods, lease=self._lease_name))

    def _choose_clocks(self, pods: _Pods, claims: Mapping[PodKey, PodClaim]) -> Mapping[PodKey, Governed]:
        """Scrape every vLLM pod that holds GPUs, claimed or not, and let the governors of the claimed ones choose."""
        claimed = {pod: claim.target for pod, claim in claims.items() if claim.target is not None}
        scrapes = self._pod_metrics.read({**self._unclaimed_targets(pods), **claimed})
        services = {pod: claim.service for pod, claim in (pods.claims.valid if pods.claims else {}).items()}
        self._serving.observe(scrapes, services, self._clock_s())
        governed = self._governors.step(self._clock_s(), claims, scrapes)
        self._note_unread(claims, scrapes, governed)
        return governed

    def _unclaimed_targets(self, pods: _Pods) -> dict[PodKey, ScrapeTarget]:
        facts = pods.facts or {}
        holders = {pod for held_by in self._owned.holders.values() for pod in held_by} & facts.keys()
        return {
            pod: ScrapeTarget(address, port, None, None)
            for pod in holders
            if (address := facts[pod].address) and (port := facts[pod].port) and not facts[pod].over
        }

    def _note_unread(
        self, claims: Mapping[PodKey, PodClaim], scrapes: Mapping[PodKey, Scrape], governed: Mapping[PodKey, Governed]
    ) -> None:
        failed = [pod for pod in claims.keys() & scrapes.keys() if scrapes[pod].problem]
        self._scrape_failures += sum(claims[pod].ready for pod in failed)
        unread = {pod: state.problem for pod, state in governed.items() if state.problem}
        for pod, problem in unread.items():
            if self._unread.get(pod) != problem:
                _log.warning("governor pod=%s clock=ceiling metrics=%r", pod, problem)
        self._unread = unread

    def _tell(self, refusals: Mapping[PodKey, Refusal]) -> None:
        for pod, refusal in refusals.items():
            if self._told.get(pod) != refusal:
                _log.warning("claim pod=%s honoured=no reason=%s message=%r", pod, refusal.reason, refusal.message)
        self._told = refusals

    def _gpu_view(self, uuid: str, *, reading: GpuReading | None, health: GpuHealth | None) -> GpuView:
        device = self._actuator.devices[uuid]
        pods = tuple(self._owned.holders.get(uuid, ()))
        return GpuView(
            uuid=uuid,
            product=device.product,
            supported_mhz=self._actuator.supported_mhz(uuid),
            clock_method=device.clock_method,
            energy_source=device.energy_source,
            pods=pods,
            energy_only=self._owned.energy_only.get(uuid),
            commanded=self._actuator.commanded(uuid),
            claim=self._granted.get(pods[0]) if len(pods) == 1 else None,
            reading=reading,
            health=health,
        )


def _wanted(claims: Mapping[PodKey, PodClaim], governed: Mapping[PodKey, Governed]) -> dict[PodKey, Wanted]:
    """Claims with the clocks chosen; the ceiling where no governor is at work."""
    return {
        pod: Wanted(
            claim.floor_mhz, governed[pod].clock_mhz if pod in governed else claim.ceiling_mhz, claim.ceiling_mhz
        )
        for pod, claim in claims.items()
    }
