"""How a Pod object tells that its pod is to end, and until when."""

import time
from datetime import datetime

from dynawatt.adapters.kubernetes.client import KubernetesObject


def is_deleted(pod: KubernetesObject) -> bool:
    """Whether somebody has deleted it; it goes on until its grace period is over."""
    return "deletionTimestamp" in pod["metadata"]


def grace_left_s(pod: KubernetesObject) -> float:
    """Seconds until SIGKILL: the API server sets the deletion timestamp to the end of the grace period."""
    deadline = datetime.fromisoformat(pod["metadata"]["deletionTimestamp"])
    return max(0.0, deadline.timestamp() - time.time())
