"""The status of a GPUNode, made from a view: only what changes rarely, in words that stay the same while it lasts."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from dynawatt.agent.diagnosing import Diagnosis, diagnose
from dynawatt.agent.enforcing import ClockRange, Setting
from dynawatt.agent.view import HOLD_S, GpuView, NodeView
from dynawatt.api.base import ClockRange as ApiClockRange
from dynawatt.api.conditions import Condition, ConditionType, Reason, set_condition
from dynawatt.api.gpunode import (
    MAX_XIDS,
    ClockControl,
    ClockMethod,
    EnergyOnly,
    EnergySource,
    GPUNodeStatus,
    GPUStatus,
    Health,
    PersistenceMode,
)
from dynawatt.ports import ClockMethod as DeviceClockMethod
from dynawatt.ports import EnergySource as DeviceEnergySource
from dynawatt.ports import PodKey

_NAMED: Final = 3
_CLOCK_METHODS: Final = {
    DeviceClockMethod.LOCKED_CLOCKS: ClockMethod.LOCKED_CLOCKS,
    DeviceClockMethod.APPLICATIONS_CLOCKS: ClockMethod.APPLICATIONS_CLOCKS,
    DeviceClockMethod.NONE: None,
}
_ENERGY_SOURCES: Final = {
    DeviceEnergySource.COUNTER: EnergySource.COUNTER,
    DeviceEnergySource.INTEGRATED: EnergySource.INTEGRATED,
}
_HEALTH: Final = {True: Health.HEALTHY, False: Health.UNHEALTHY, None: Health.UNKNOWN}
_PERSISTENCE: Final = {True: PersistenceMode.ENABLED, False: PersistenceMode.DISABLED, None: None}


class _Verdict(NamedTuple):
    """One condition without its type and time."""

    status: bool | None
    reason: Reason
    message: str


def node_status(view: NodeView, *, previous: GPUNodeStatus, now: datetime) -> GPUNodeStatus:
    """The status for a view; ``previous`` keeps the transition times of conditions that did not change."""
    diagnoses = {gpu.uuid: diagnose(gpu) for gpu in view.gpus}
    conditions: Sequence[Condition] = previous.conditions
    for type_, verdict in (
        (ConditionType.CLOCKS_GOVERNED, _governed(view)),
        (ConditionType.GPUS_HEALTHY, _healthy(view, diagnoses)),
    ):
        conditions = set_condition(
            conditions,
            type_,
            verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            observed_generation=1,  # a GPUNode has no spec, so its generation never moves
            now=now,
        )
    return GPUNodeStatus(gpus=[_gpu_status(gpu, diagnoses[gpu.uuid]) for gpu in view.gpus], conditions=list(conditions))


def _gpu_status(gpu: GpuView, diagnosis: Diagnosis) -> GPUStatus:
    # Which clock it has within the claim changes by the second: that is in the metrics.
    claim = gpu.claim if isinstance(gpu.commanded, ClockRange) else None
    refusal = gpu.energy_only
    control = ClockControl.SUPPORTED if gpu.supported_mhz else ClockControl.UNSUPPORTED
    return GPUStatus(
        uuid=gpu.uuid,
        product=gpu.product,
        clock_control=ClockControl.UNKNOWN if gpu.supported_mhz is None else control,
        clock_method=_CLOCK_METHODS[gpu.clock_method],
        min_clock_megahertz=gpu.supported_mhz[0] if gpu.supported_mhz else None,
        max_clock_megahertz=gpu.supported_mhz[-1] if gpu.supported_mhz else None,
        energy_source=_ENERGY_SOURCES[gpu.energy_source],
        allocated_to=str(gpu.pods[0]) if gpu.pods else None,
        claim=ApiClockRange(min_megahertz=claim.min_mhz, max_megahertz=claim.max_mhz) if claim else None,
        energy_only=None if refusal is None else EnergyOnly(reason=refusal.reason.value, message=refusal.message),
        health=_HEALTH[diagnosis.healthy],
        health_message=", ".join(diagnosis.problems) or None,
        xids=sorted(gpu.health.xids)[:MAX_XIDS] if gpu.health else [],
        persistence_mode=_PERSISTENCE[gpu.health.persistence] if gpu.health else None,
        compute_mode=gpu.health.compute_mode if gpu.health else None,
    )


def _governed(view: NodeView) -> _Verdict:
    return _at_default(view) or _impeded(view) or _of_claims(view)


def _at_default(view: NodeView) -> _Verdict | None:
    """Why no claim holds, or which GPU may not even be at default."""
    if unknown := [gpu.uuid for gpu in view.gpus if gpu.commanded is Setting.UNKNOWN]:
        return _Verdict(False, Reason.GPU_ERROR, f"The clocks of {', '.join(unknown)} could be neither set nor reset.")
    if view.stopped:
        told = "The agent of this node stopped and brought all clocks back to default."
        return _Verdict(None, Reason.AGENT_STOPPED, told)
    if view.switched_off:
        return _Verdict(False, Reason.CLOCKS_SWITCHED_OFF, f"All clocks are at default: {view.switched_off}.")
    if not view.lease.fresh:
        return _Verdict(False, Reason.LEASE_STALE, f"All clocks are at default: {view.lease.reason}.")
    return None


def _impeded(view: NodeView) -> _Verdict | None:
    """Why claims cannot be followed although they hold."""
    if view.allocations_problem:
        held = f"Clocks are held as they are for {HOLD_S:.0f} s, then brought back to default"
        return _Verdict(None, Reason.ALLOCATIONS_UNAVAILABLE, f"{held}: {view.allocations_problem}.")
    if view.journal_problem:
        return _Verdict(False, Reason.JOURNAL_UNWRITABLE, f"No further GPU is locked: {view.journal_problem}.")
    return None


def _of_claims(view: NodeView) -> _Verdict:
    if view.refusals:
        told = _told({pod: refusal.message for pod, refusal in view.refusals.items()})
        return _Verdict(False, view.refusals[min(view.refusals)].reason, f"Claims without effect: {told}.")
    unread = {pod: governed.problem for pod, governed in view.governed.items() if governed.problem}
    if unread:
        told = _told(unread)
        message = f"GPUs of pods whose metrics cannot be read are at their ceiling: {told}."
        return _Verdict(True, Reason.CLAIMS_APPLIED, message)
    if view.claims:
        return _Verdict(True, Reason.CLAIMS_APPLIED, "All claimed GPUs are kept within their claims.")
    return _Verdict(True, Reason.NO_CLAIMS, "No GPU is claimed; all run at their default clocks.")


def _healthy(view: NodeView, diagnoses: Mapping[str, Diagnosis]) -> _Verdict:
    def those(which: Mapping[str, bool]) -> str:
        return ", ".join(uuid for uuid, concerned in which.items() if concerned)

    failed = {uuid: ", ".join(diagnosis.problems) for uuid, diagnosis in diagnoses.items() if diagnosis.problems}
    if view.stopped:
        return _Verdict(None, Reason.AGENT_STOPPED, "The agent of this node stopped.")
    if failed:
        return _Verdict(False, Reason.GPU_UNHEALTHY, f"{_told(failed)}.")
    if unknown := those({uuid: diagnosis.healthy is None for uuid, diagnosis in diagnoses.items()}):
        return _Verdict(None, Reason.HEALTH_UNKNOWN, f"Error counts are not known yet of {unknown}.")
    if pending := those({uuid: diagnosis.row_remap_pending for uuid, diagnosis in diagnoses.items()}):
        return _Verdict(True, Reason.ROW_REMAP_PENDING, f"Memory rows wait for a reset of {pending} to be replaced.")
    if off := those({uuid: diagnosis.persistence_off for uuid, diagnosis in diagnoses.items()}):
        message = f"The driver forgets clocks and counters with its last client; run `nvidia-smi -pm 1` for {off}."
        return _Verdict(True, Reason.PERSISTENCE_MODE_OFF, message)
    return _Verdict(True, Reason.ALL_HEALTHY, "All GPUs answer and show no error that calls for a reset.")


def _told(problems: Mapping[PodKey, str] | Mapping[str, str]) -> str:
    named = [f"{concerned}: {problem}" for concerned, problem in sorted(problems.items())]
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"{'; '.join(named[:_NAMED])}{more}"
