"""Which replicas of a Deployment go first when it is scaled down.

Kubernetes itself takes pods that are not scheduled, not running or not Ready
first, and then those with the lowest deletion cost. So only the next to go need
a cost, and nothing is written while they stay the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import KubernetesObject

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_NEXT: Final = "-1000000"
"""Below what anybody else would set, and told from it."""
_UNKNOWN_LOAD: Final = 64
"""As a power of two: more than any load that is known."""
_PHASES: Final = {"Pending": 0, "Unknown": 1, "Running": 2}


def order_of_leaving(
    pods: Sequence[KubernetesObject], *, running_requests: Mapping[str, int], pods_on_node: Mapping[str, int]
) -> list[KubernetesObject]:
    """The pods of one Deployment that are not stopping, the next to go first.

    After those that do not serve come the ones whose nodes are nearest to empty, for that frees whole nodes; among
    these the least loaded. Loads are compared by powers of two, and among equals pods with a cost stay the next ones:
    otherwise every look would choose anew.

    Args:
        pods: Of one Deployment.
        running_requests: By pod name; pods without are taken to be busy.
        pods_on_node: Pods that hold GPUs, of whatever service, by node name.
    """

    def key(pod: KubernetesObject) -> tuple[Any, ...]:
        name, node = pod["metadata"]["name"], pod["spec"].get("nodeName")
        phase = (pod.get("status") or {}).get("phase", "Pending")
        requests = running_requests.get(name)
        load = _UNKNOWN_LOAD if requests is None else requests.bit_length()
        is_next = _cost(pod) == _NEXT
        return bool(node), _PHASES.get(phase, 0), is_ready(pod), pods_on_node.get(node, 0), load, not is_next, name

    return sorted((pod for pod in pods if "deletionTimestamp" not in pod["metadata"]), key=key)


def deletion_cost_changes(
    pods: Sequence[KubernetesObject], leaving: Sequence[KubernetesObject]
) -> Mapping[str, str | None]:
    """Deletion costs to set or (None) to remove, by pod name, so that ``leaving`` and no others of ``pods`` go next.

    Pods that are not Ready go first without one. Where somebody else has set costs, theirs hold and nothing is changed.
    The controller that deletes pods hears of costs a moment later than they are written: scale a look after.
    """
    if any(_cost(pod) not in (None, _NEXT) for pod in pods):
        return {}
    wanted = {pod["metadata"]["name"] for pod in leaving if is_ready(pod)}
    marked = {pod["metadata"]["name"] for pod in pods if _cost(pod) == _NEXT}
    return {**dict.fromkeys(sorted(wanted - marked), _NEXT), **dict.fromkeys(sorted(marked - wanted))}


def is_ready(pod: KubernetesObject) -> bool:
    """Whether a pod serves."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _cost(pod: KubernetesObject) -> str | None:
    cost: str | None = (pod["metadata"].get("annotations") or {}).get(DELETION_COST)
    return cost
