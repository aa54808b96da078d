"""Whether the clocks of a service's GPUs can be set, by what the agents of its nodes report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.conditions import ConditionStatus, ConditionType, Reason, find_condition
from dynawatt.api.gpunode import ClockControl, GPUNodeStatus, GPUStatus

_PATIENCE: Final = timedelta(minutes=5)
"""An agent that is updated is away for less, and no plan is worth changing for that."""
_IMPEDIMENTS: Final = (
    Reason.AGENT_STOPPED,
    Reason.ALLOCATIONS_UNAVAILABLE,
    Reason.CLOCK_CONTROL_UNSUPPORTED,
    Reason.GPU_ERROR,
    Reason.JOURNAL_UNWRITABLE,
)
"""Of a whole node."""
_PASSES: Final = Reason.AMBIGUOUS_POD
"""By itself."""


class Reports:
    """What the agents reported last; what did not change is not read again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[KubernetesObject, GPUNodeStatus]] = {}

    def of(self, gpunodes: Sequence[KubernetesObject]) -> dict[str, GPUNodeStatus]:
        """By node. A report of another version that cannot be read tells nothing."""
        known, self._known = self._known, {}
        for gpunode in gpunodes:
            name = gpunode["metadata"]["name"]
            found, status = known.get(name, (None, None))
            self._known[name] = gpunode, status if found is gpunode and status is not None else _read(gpunode)
        return {name: status for name, (_, status) in self._known.items()}


def default_clock_because(pods: Sequence[KubernetesObject], reports: Mapping[str, GPUNodeStatus], now: datetime) -> str:
    """Why a service has to be planned at the default clock; empty where its clocks can be set.

    That is so where most of its replicas cannot be governed: the others alone are not worth another plan, and their
    agents govern them all the same. As long as no agent reports at all, agents are taken to come.

    Args:
        pods: Of the service, those that have a node and are not stopping.
        reports: What agents report, by node.
        now: With a time zone.
    """
    if not reports:
        return ""
    troubles = Counter(filter(None, (_trouble(pod, reports, now) for pod in pods)))
    if 2 * troubles.total() <= len(pods):
        return ""
    [(most_common, _)] = troubles.most_common(1)
    return f"the clocks of {troubles.total()} of {len(pods)} replicas cannot be set, {most_common}"


def _read(gpunode: KubernetesObject) -> GPUNodeStatus:
    try:
        return GPUNodeStatus.model_validate(gpunode.get("status") or {})
    except ValidationError:
        return GPUNodeStatus()


def _trouble(pod: KubernetesObject, reports: Mapping[str, GPUNodeStatus], now: datetime) -> str:
    """Why the GPUs of a pod stay at their default clock; empty where nothing speaks against another one."""
    node = pod["spec"]["nodeName"]
    if node not in reports:
        return f"no agent has reported on node {node}"
    holder = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    gpus = reports[node].gpus
    own = [gpu for gpu in gpus if gpu.allocated_to == holder] or [gpu for gpu in gpus if gpu.allocated_to is None]
    told = next(filter(None, map(_refusal, own)), "")
    return told or _impediment(reports[node], node, now)


def _refusal(gpu: GPUStatus) -> str:
    if gpu.energy_only is not None and gpu.energy_only.reason != _PASSES:
        return f"{gpu.energy_only.reason}: {gpu.energy_only.message}"
    unsupported = gpu.clock_control is ClockControl.UNSUPPORTED
    return f"{Reason.CLOCK_CONTROL_UNSUPPORTED}: {gpu.product} does not let it be set" if unsupported else ""


def _impediment(report: GPUNodeStatus, node: str, now: datetime) -> str:
    found = find_condition(report.conditions, ConditionType.CLOCKS_GOVERNED)
    if found is None or found.status is ConditionStatus.TRUE or found.reason not in _IMPEDIMENTS:
        return ""
    return f"{found.reason} on node {node}" if now - found.last_transition_time > _PATIENCE else ""
