"""PodDisruptionBudgets, which scaling down does not ask by itself: only evictions do."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.controller.shapes.leaving import is_ready
from dynawatt.controller.shapes.selectors import selects


class Allowance(NamedTuple):
    """How many pods may stop now."""

    pods: int
    blocked_by: str = ""
    """The budget that lets no more stop, and how many it lets; empty when all may."""


def allowance(budgets: Sequence[KubernetesObject], leaving: Sequence[KubernetesObject]) -> Allowance:
    """How many of these pods may stop now, taken in their order.

    Args:
        budgets: All PodDisruptionBudgets of the pods' namespace.
        leaving: Pods about to be stopped. Those that are not Ready do not serve, so no budget counts them.
    """
    left = {budget["metadata"]["name"]: _allowed(budget) for budget in budgets}
    used: Counter[str] = Counter()
    for position, pod in enumerate(leaving):
        if not is_ready(pod):
            continue
        labels = pod["metadata"].get("labels") or {}
        concerned = [one["metadata"]["name"] for one in budgets if selects(one["spec"].get("selector"), labels)]
        for name in concerned:
            if used[name] >= left[name]:
                return Allowance(position, f"PodDisruptionBudget {name!r} allows {left[name]} disruptions now")
        used.update(concerned)
    return Allowance(len(leaving))


def _allowed(budget: KubernetesObject) -> int:
    """None while its controller has not seen the budget as it is."""
    status = budget.get("status") or {}
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        return 0
    allowed: int = status.get("disruptionsAllowed", 0)
    return allowed
