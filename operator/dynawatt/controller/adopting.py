"""What a service is given back to: its own Deployment as it was found."""

from collections.abc import Sequence
from math import ceil

from dynawatt.adapters.kubernetes.mirror import gpu_count
from dynawatt.api.llmservice_status import Adopted
from dynawatt.controller.target import Workload


def adopted_as(template: Workload, siblings: Sequence[Workload]) -> Adopted:
    """The user's own Deployment, which nothing is on record about yet.

    Siblings that serve nevertheless are left of an LLMService that was deleted by force, or whose status was lost.
    Then the Deployment may ask for no replicas at all, and who took it at its word would stop everything: what counts
    as found are as many of its replicas as have the GPUs of all.
    """
    held = sum(one.replicas * _gpus(one) for one in siblings)
    if not held:
        return Adopted(replicas=template.replicas)
    replicas = template.replicas + ceil(held / max(1, _gpus(template)))
    return Adopted(replicas=replicas, commanded=template.replicas)


def _gpus(workload: Workload) -> int:
    """Of one replica."""
    return gpu_count(workload.deployment["spec"]["template"]["spec"])
