"""The node's GPUNode: its status made from a view, and a thread that writes it when it changed.

Writing has a thread of its own because the API may be slow or away, and clocks
must not wait for it. Only the newest view counts; those in between are dropped.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from dynawatt.agent.enforcing import ClockRange, Setting
from dynawatt.agent.view import HOLD_S, GpuView, NodeView
from dynawatt.api.base import ClockRange as ApiClockRange
from dynawatt.api.conditions import ConditionType, Reason, set_condition
from dynawatt.api.gpunode import ClockControl, GPUNodeStatus, GPUStatus
from dynawatt.errors import OperationError
from dynawatt.ports import PodKey

_FIRST_PAUSE_S: Final = 1.0
_MAX_PAUSE_S: Final = 30.0
_NAMED_PODS: Final = 3

_log = logging.getLogger(__name__)


class StatusStore(Protocol):
    """Where this node's GPUNode lives."""

    def load(self) -> GPUNodeStatus:
        """The status as it stands; creates the object when it is missing. Raises OperationError."""
        ...

    def save(self, status: GPUNodeStatus) -> None:
        """Replace the status. Raises OperationError."""
        ...


def node_status(view: NodeView, *, previous: GPUNodeStatus, now: datetime) -> GPUNodeStatus:
    """The status for a view; ``previous`` keeps the transition times of conditions that did not change."""
    governed, reason, message = _governed(view)
    return GPUNodeStatus(
        gpus=[_gpu_status(gpu) for gpu in view.gpus],
        conditions=set_condition(
            previous.conditions,
            ConditionType.CLOCKS_GOVERNED,
            governed,
            reason=reason,
            message=message,
            observed_generation=1,  # a GPUNode has no spec, so its generation never moves
            now=now,
        ),
    )


def _gpu_status(gpu: GpuView) -> GPUStatus:
    # Which clock it has within the claim changes by the second: that is in the metrics.
    claim = gpu.claim if isinstance(gpu.commanded, ClockRange) else None
    control = ClockControl.SUPPORTED if gpu.supported_mhz else ClockControl.UNSUPPORTED
    return GPUStatus(
        uuid=gpu.uuid,
        product=gpu.product,
        clock_control=ClockControl.UNKNOWN if gpu.supported_mhz is None else control,
        min_clock_megahertz=gpu.supported_mhz[0] if gpu.supported_mhz else None,
        max_clock_megahertz=gpu.supported_mhz[-1] if gpu.supported_mhz else None,
        allocated_to=str(gpu.pods[0]) if gpu.pods else None,
        claim=ApiClockRange(min_megahertz=claim.min_mhz, max_megahertz=claim.max_mhz) if claim else None,
    )


def _governed(view: NodeView) -> tuple[bool | None, Reason, str]:
    unknown = [gpu.uuid for gpu in view.gpus if gpu.commanded is Setting.UNKNOWN]
    if unknown:
        return False, Reason.GPU_ERROR, f"The clocks of {', '.join(unknown)} could be neither set nor reset."
    if view.stopped:
        return None, Reason.NO_CLAIMS, "The agent of this node stopped and brought all clocks back to default."
    if not view.lease.fresh:
        return False, Reason.LEASE_STALE, f"All clocks are at default: {view.lease.reason}."
    if view.allocations_problem:
        held = f"Clocks are held as they are for {HOLD_S:.0f} s, then brought back to default"
        return None, Reason.ALLOCATIONS_UNAVAILABLE, f"{held}: {view.allocations_problem}."
    return _of_claims(view)


def _of_claims(view: NodeView) -> tuple[bool, Reason, str]:
    if view.refusals:
        told = _told({pod: refusal.message for pod, refusal in view.refusals.items()})
        return False, view.refusals[min(view.refusals)].reason, f"Claims without effect: {told}."
    unread = {pod: governed.problem for pod, governed in view.governed.items() if governed.problem}
    if unread:
        told = _told(unread)
        return True, Reason.CLAIMS_APPLIED, f"GPUs of pods whose metrics cannot be read are at their ceiling: {told}."
    if view.claims:
        return True, Reason.CLAIMS_APPLIED, "All claimed GPUs are kept within their claims."
    return True, Reason.NO_CLAIMS, "No GPU is claimed; all run at their default clocks."


def _told(problems: Mapping[PodKey, str]) -> str:
    named = [f"{pod}: {problem}" for pod, problem in sorted(problems.items())]
    more = f"; and {len(named) - _NAMED_PODS} more" if len(named) > _NAMED_PODS else ""
    return f"{'; '.join(named[:_NAMED_PODS])}{more}"


class StatusReporter:
    """Writes the status of the newest view whenever it differs from what is stored."""

    def __init__(self, store: StatusStore, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._now = now
        self._stored: GPUNodeStatus | None = None
        self._newest: NodeView | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="gpunode", daemon=True)

    def start(self) -> None:
        """Begin to write what is submitted."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what was submitted last, if the API answers, and end."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def submit(self, view: NodeView) -> None:
        """Take a view; returns at once."""
        self._newest = view
        self._wake.set()

    def write(self, view: NodeView) -> bool:
        """Store the status of a view unless it is stored already; True when something was written.

        Raises OperationError. After a failure the stored status is read anew: the object may be gone or another.
        """
        stored, self._stored = self._stored, None
        if stored is None:
            stored = self._store.load()
        status = node_status(view, previous=stored, now=self._now())
        changed = status != stored
        if changed:
            self._store.save(status)
        self._stored = status
        return changed

    def _run(self) -> None:
        pause_s = 0.0
        stopping = False
        while not stopping:
            self._wake.wait()
            self._wake.clear()
            stopping = self._stopping.is_set()
            view = self._newest
            if view is None:
                continue
            try:
                self.write(view)
            except OperationError as error:
                pause_s = min(max(2 * pause_s, _FIRST_PAUSE_S), _MAX_PAUSE_S)
                if str(error) != self._problem:
                    _log.warning("gpunode error=%r", str(error))
                self._problem = str(error)
                self._stopping.wait(pause_s)
                self._wake.set()
            else:
                pause_s, self._problem = 0.0, ""
