"""Whether probes leave replicas the time that they take to start."""

from collections.abc import Mapping
from typing import Final

from dynawatt.api.conditions import ConditionType, Reason, find_condition
from dynawatt.controller.target import ShapedWorkload
from dynawatt.controller.tick import Tick

_GIVE_WAY: Final = (Reason.STEADY, Reason.SCALING)
"""What says less than that replicas will be killed while they start."""


def report_startup_budget(tick: Tick, learnt_s: Mapping[str, float]) -> None:
    """Tell of Deployments whose pods the kubelet takes for dead before they usually are Ready.

    ``learnt_s`` are usual start-ups by shape, of those that any were seen of.
    """
    told = [
        message
        for workload in tick.target.workloads
        if workload is tick.target.template or workload.replicas
        if (message := _problem(workload, learnt_s.get(workload.shape)))
    ]
    before = find_condition(tick.draft.status.conditions, ConditionType.PROGRESSING)
    if told and before is not None and before.reason in _GIVE_WAY:
        tick.draft.set(ConditionType.PROGRESSING, False, Reason.STARTUP_BUDGET_TOO_SMALL, "; ".join(told))


def _problem(workload: ShapedWorkload, usual_s: float | None) -> str:
    budget_s = workload.startup_budget_s
    if budget_s is None or usual_s is None or budget_s >= usual_s:
        return ""
    return (
        f"Deployment {workload.name!r}: its probes give up on a replica after {budget_s} s, and one takes "
        f"{usual_s:.0f} s to start: raise `failureThreshold` of its startupProbe"
    )
