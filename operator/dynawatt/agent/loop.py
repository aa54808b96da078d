"""The agent's loop: observe, govern, act, measure, once a second.

Safety does not depend on a cycle going well. The Lease is judged first, from
memory alone; when it is stale the GPUs are reset before anything else is asked
for; and a cycle that breaks later on is logged and counted while the Lease goes
on ageing. However the loop ends, every GPU is brought back to its default clocks.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.claims import NodeClaims, PodClaim, read_claims
from dynawatt.agent.enforcing import ClockRange, Refusal, Wanted, decide
from dynawatt.agent.governing import Governed, PodGovernors
from dynawatt.agent.lease import LeaseObserver, LeaseState
from dynawatt.agent.metering import NOBODY, EnergyMeter
from dynawatt.agent.view import HOLD_S, GpuView, NodeView
from dynawatt.ports import AllocationsUnavailable, GpuError, PodAllocations, PodKey, PodMetrics

PERIOD_S: Final = 1.0
_MISSED_CYCLES: Final = 3
_READING_BUDGET_S: Final = 2.0
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

    def lease(self) -> tuple[bool, Mapping[str, Any] | None]:
        """Whether anything is known of the operator's Lease, and the Lease if it exists."""
        ...


class Agent:
    """Governs the GPUs of one node; see the module.

    Args:
        actuator: The GPUs and what they are set to.
        allocations: Which pod holds which GPU.
        pod_metrics: What the node's vLLM pods tell of themselves.
        cluster: Pods and Lease.
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
        self._allocations = allocations
        self._pod_metrics = pod_metrics
        self._cluster = cluster
        self._lease_name = lease_name
        self._publish = publish
        self._clock_s = clock_s
        self._unix_s = unix_s
        self._lease = LeaseObserver()
        self._lease_reason = ""
        self._meter = EnergyMeter()
        self._governors = PodGovernors()
        self._unread: Mapping[PodKey, str] = {}
        self._scrape_failures = 0
        self._held: Mapping[PodKey, Iterable[str]] = {}
        self._granted: Mapping[PodKey, ClockRange] = {}
        self._told: Mapping[PodKey, Refusal] = {}
        self._allocations_problem = ""
        self._allocations_s = clock_s()
        self._cycle_failures = 0
        self._view: NodeView | None = None
        self._heartbeat_s = clock_s()

    def run(self, stop: threading.Event) -> None:
        """Cycle once a second until ``stop`` is set, then reset every GPU."""
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
        """One round; raises nothing."""
        started_s = self._clock_s()
        lease = self._judge_lease(started_s)
        try:
            if not lease.fresh:
                self._actuator.reset_all(lease.reason)
            view = self._govern(lease, started_s)
            self._heartbeat_s = self._clock_s()
        except Exception:
            _log.exception("cycle failed")
            self._cycle_failures += 1
            if self._view is None:
                return
            view = replace(self._view, cycle_failures=self._cycle_failures)
        self._view = view
        self._publish(view)

    def _judge_lease(self, now_s: float) -> LeaseState:
        known, lease = self._cluster.lease()
        if known:
            self._lease.observe(lease, now_s)
        state = self._lease.state(now_s)
        if state.reason != self._lease_reason:
            level = logging.INFO if state.fresh else logging.WARNING
            _log.log(level, "lease fresh=%s reason=%r", state.fresh, state.reason)
            self._lease_reason = state.reason
        return state

    def _govern(self, lease: LeaseState, started_s: float) -> NodeView:
        claims = self._read_claims()
        governed = self._choose_clocks(claims.valid if claims and lease.fresh else {})
        allocations = self._read_allocations()
        decision = decide(
            gpus=self._actuator.states(),
            allocations=allocations,
            claims=None if claims is None else _wanted(claims.valid, governed),
            lease=lease,
        )
        if lease.fresh:  # all were reset above otherwise
            self._actuator.carry_out(decision)
        refusals = {**decision.refusals, **(claims.invalid if claims else {})}
        self._tell(refusals)
        if allocations is not None:
            self._held, self._granted = allocations, decision.granted
        return NodeView(
            gpus=self._measure(),
            energy_j=self._meter.totals_j(self._clock_s()),
            command_failures=self._actuator.failures(),
            cycle_failures=self._cycle_failures,
            lease=lease,
            claims=len(claims.valid) + len(claims.invalid) if claims else 0,
            refusals=refusals,
            governed=governed,
            scrape_failures=self._scrape_failures,
            allocations_problem=self._allocations_problem,
            cycle_s=self._clock_s() - started_s,
            finished_unix_s=self._unix_s(),
        )

    def _choose_clocks(self, claims: Mapping[PodKey, PodClaim]) -> Mapping[PodKey, Governed]:
        targets = {pod: claim.target for pod, claim in claims.items() if claim.target is not None}
        scrapes = self._pod_metrics.read(targets)
        governed = self._governors.step(self._clock_s(), claims, scrapes)
        self._scrape_failures += sum(bool(scrape.problem) and claims[pod].ready for pod, scrape in scrapes.items())
        unread = {pod: state.problem for pod, state in governed.items() if state.problem}
        for pod, problem in unread.items():
            if self._unread.get(pod) != problem:
                _log.warning("governor pod=%s clock=ceiling metrics=%r", pod, problem)
        self._unread = unread
        return governed

    def _read_claims(self) -> NodeClaims | None:
        pods = self._cluster.pods()
        if pods is None:
            return None
        if self._cluster.pods_age_s() > _CLAIMS_MAX_AGE_S:
            # Somebody may have taken a claim back without our hearing of it, even though the Lease is renewed.
            return NodeClaims()
        return read_claims(pods, lease=self._lease_name)

    def _read_allocations(self) -> Mapping[PodKey, Any] | None:
        try:
            allocations = self._allocations.gpus_by_pod()
        except AllocationsUnavailable as error:
            if not self._allocations_problem:
                _log.warning("allocations error=%r action=hold", str(error))
            self._allocations_problem = str(error) or "no reason given"
            if self._clock_s() - self._allocations_s >= HOLD_S:
                self._actuator.reset_all("which pod holds which GPU is not known any more")
            return None
        self._allocations_problem, self._allocations_s = "", self._clock_s()
        return allocations

    def _tell(self, refusals: Mapping[PodKey, Refusal]) -> None:
        for pod, refusal in refusals.items():
            if self._told.get(pod) != refusal:
                _log.warning("claim pod=%s honoured=no reason=%s message=%r", pod, refusal.reason, refusal.message)
        self._told = refusals

    def _measure(self) -> tuple[GpuView, ...]:
        deadline_s = self._clock_s() + _READING_BUDGET_S

        def reading(read: Callable[[], float]) -> float | None:
            if self._clock_s() >= deadline_s:  # a driver that does not answer may cost one timeout, not one per reading
                return None
            try:
                return read()
            except GpuError as error:
                _log.debug("reading error=%r", str(error))
                return None

        holders: dict[str, list[PodKey]] = {}
        for pod, uuids in self._held.items():
            for uuid in uuids:
                holders.setdefault(uuid, []).append(pod)
        views = []
        for uuid, device in self._actuator.devices.items():
            pods = tuple(sorted(holders.get(uuid, [])))
            counter_j = reading(device.energy_j)
            if counter_j is not None:
                self._charge(uuid, counter_j, pods[0] if len(pods) == 1 else NOBODY)
            views.append(
                GpuView(
                    uuid=uuid,
                    product=device.product,
                    supported_mhz=self._actuator.supported_mhz(uuid),
                    pods=pods,
                    commanded=self._actuator.commanded(uuid),
                    claim=self._granted.get(pods[0]) if len(pods) == 1 else None,
                    clock_mhz=reading(device.sm_clock_mhz),
                    power_w=reading(device.power_w),
                )
            )
        return tuple(views)

    def _charge(self, uuid: str, counter_j: float, holder: PodKey) -> None:
        if self._meter.observe(uuid=uuid, counter_j=counter_j, holder=holder, now_s=self._clock_s()):
            _log.warning("energy gpu=%s counter fell: the driver restarted and forgot its clocks", uuid)
            self._actuator.forget(uuid)


def _wanted(claims: Mapping[PodKey, PodClaim], governed: Mapping[PodKey, Governed]) -> dict[PodKey, Wanted]:
    """Claims with the clocks chosen; the ceiling where no governor is at work."""
    return {
        pod: Wanted(
            claim.floor_mhz, governed[pod].clock_mhz if pod in governed else claim.ceiling_mhz, claim.ceiling_mhz
        )
        for pod, claim in claims.items()
    }
