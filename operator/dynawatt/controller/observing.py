"""Which pods are asked for the load of a service."""

from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.target import ShapedWorkload, ready_since
from dynawatt.controller.tick import Tick


def load_question(tick: Tick, settings: OperatorSettings, now_s: float) -> LoadQuestion:
    """All pods that serve or drain, by shape; ``now_s`` is Unix time."""
    return LoadQuestion(
        namespace=tick.runtime.namespace,
        deployment=tick.runtime.deployment,
        shapes={
            workload.shape: _watched(workload, settings.rate_window_s, now_s) for workload in tick.target.workloads
        },
        rate_window_s=settings.rate_window_s,
        mix_window_s=settings.mix_window_s,
        max_age_s=settings.max_sample_age_s,
    )


def _watched(workload: ShapedWorkload, rate_window_s: float, now_s: float) -> list[WatchedPod]:
    """A pod that has been Ready for longer than the rate window must have been scraped by now."""
    found = []
    for pod in workload.pods:
        since_s = ready_since(pod)
        stopping = "deletionTimestamp" in pod["metadata"]
        if since_s is None and not stopping:
            continue
        found.append(
            WatchedPod(
                pod["metadata"]["name"],
                address=pod["status"].get("podIP") or "",
                port=workload.settings.port,
                expected=not stopping and since_s is not None and now_s - since_s > rate_window_s,
            )
        )
    return found
