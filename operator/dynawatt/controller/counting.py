"""What is there of a service, in the numbers that steps are decided from."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.kubernetes.mirror import gpu_count
from dynawatt.controller.inventory import Inventory
from dynawatt.controller.shapes.budgets import allowance
from dynawatt.controller.target import Workload
from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.room import NodeRoom

_NEW_NODES: Final = NodeRoom("new nodes", 1_000_000)


def count_workload(
    workload: Workload,
    *,
    capacity_rps: float,
    overdue_s: float,
    drains: bool,
    budgets: Sequence[KubernetesObject],
    now_s: float,
) -> ShapeCount:
    """One Deployment in numbers.

    Args:
        workload: With its pods.
        capacity_rps: Of one replica.
        overdue_s: A pod that is not Ready for so long is stuck.
        drains: Whether its pods finish their requests when they stop.
        budgets: PodDisruptionBudgets of its namespace.
        now_s: Unix time.
    """
    serving = workload.serving_pods
    stopping = [pod for pod in workload.pods if "deletionTimestamp" in pod["metadata"]]
    overdue = workload.overdue_pods(overdue_s, now_s)
    starting = len(workload.pods) - len(serving) - len(stopping) - len(overdue)
    waiting = [pod for pod in workload.pods if "deletionTimestamp" not in pod["metadata"]]
    drainable = allowance(budgets, serving).pods if drains else 0
    return ShapeCount(
        gpus=gpu_count(workload.deployment["spec"]["template"]["spec"]),
        capacity_rps=capacity_rps,
        desired=workload.replicas,
        ready=len(serving),
        starting=starting,
        overdue=len(overdue) + _never_created(workload),
        stopping=len(stopping),
        unscheduled=sum(not pod["spec"].get("nodeName") for pod in waiting),
        drainable=drainable,
    )


def node_rooms(
    inventory: Inventory,
    product: str,
    workloads: Sequence[Workload],
    pods: Sequence[KubernetesObject],
    *,
    elastic: bool = False,
) -> list[NodeRoom]:
    """The nodes with a service's GPUs, those that its replicas may not run on with the reason.

    Args:
        inventory: All nodes.
        product: GPUs that the service runs on.
        workloads: Of the service, the user's own first.
        pods: All pods with GPUs.
        elastic: Whether nodes are added for pods that wait for GPUs.
    """
    leaving: Counter[str] = Counter()
    for pod in pods:
        if "deletionTimestamp" in pod["metadata"] and pod["spec"].get("nodeName"):
            leaving[pod["spec"]["nodeName"]] += gpu_count(pod["spec"])
    serving: dict[str, Counter[str]] = defaultdict(Counter)
    for workload in workloads:
        for pod in workload.serving_pods:
            serving[pod["spec"]["nodeName"]][workload.deployment["metadata"]["name"]] += 1
    obstacles = inventory.obstacles(inventory.needs(workloads))
    rooms = [
        NodeRoom(node.name, node.free, leaving[node.name], dict(serving[node.name]), why)
        for node, why in zip(inventory.nodes, obstacles, strict=True)
        if node.product == product
    ]
    return [*rooms, _NEW_NODES] if elastic else rooms


def _never_created(workload: Workload) -> int:
    """Pods that the API server refuses, such as for a quota: nothing will come of waiting for them."""
    conditions = workload.deployment.get("status", {}).get("conditions") or ()
    refused = any(one["type"] == "ReplicaFailure" and one["status"] == "True" for one in conditions)
    there = sum("deletionTimestamp" not in pod["metadata"] for pod in workload.pods)
    return max(0, workload.replicas - there) if refused else 0
