"""The Deployment of an LLMService as dynawatt understands it, or why it cannot be managed."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.kubernetes.cluster import parse_time
from dynawatt.adapters.vllm_args import VllmPodError, VllmSettings, find_vllm_container, vllm_settings
from dynawatt.api.conditions import Reason

_NO_CONTAINER = {"ContainerNotFound", "NoVllmContainer", "AmbiguousContainer"}
_LONGEST_STARTUP_S: Final = 3600.0


class TargetError(Exception):
    """The Deployment cannot be managed; nothing is touched."""

    def __init__(self, reason: Reason, message: str) -> None:
        """``reason`` goes into the Ready condition, the message is for people."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment and its pods, read at one moment, whatever they run: enough to give everything back."""

    deployment: KubernetesObject
    pods: Sequence[KubernetesObject]
    """All pods that have not ended, those that are stopping included."""

    @property
    def replicas(self) -> int:
        """Desired replicas of the Deployment."""
        replicas: int = self.deployment["spec"].get("replicas", 1)
        return replicas

    @property
    def replicas_writer(self) -> str:
        """Field manager that last set the replicas, as the API server recorded it."""
        owners = [
            entry
            for entry in self.deployment["metadata"].get("managedFields") or ()
            if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        ]
        return max(owners, key=lambda entry: entry.get("time", ""))["manager"] if owners else "unknown"

    @property
    def serving_pods(self) -> list[KubernetesObject]:
        """Ready pods that are not stopping."""
        return [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"] and ready_since(pod)]

    @property
    def live_pods(self) -> list[KubernetesObject]:
        """Scheduled pods that are not stopping, Ready or not: the ones that carry claims."""
        return [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"] and pod["spec"].get("nodeName")]

    def overdue_pods(self, after_s: float, now_s: float) -> list[KubernetesObject]:
        """Pods that are not Ready so long after they were created, scheduled or not; ``now_s`` is Unix time."""
        return [
            pod
            for pod in self.pods
            if "deletionTimestamp" not in pod["metadata"]
            and ready_since(pod) is None
            and now_s - parse_time(pod["metadata"]["creationTimestamp"]).timestamp() > after_s
        ]

    def startup_s(self, default_s: float) -> float:
        """Median time from creation to Ready of the pods that are Ready.

        A pod whose probe failed for a moment later on is Ready since then, which says nothing about its start: times
        that no start takes are left out.
        """
        times = [
            since - parse_time(pod["metadata"]["creationTimestamp"]).timestamp()
            for pod in self.pods
            if (since := ready_since(pod)) is not None
        ]
        plausible = [time_s for time_s in times if time_s <= _LONGEST_STARTUP_S]
        return statistics.median(plausible) if plausible else default_s


@dataclass(frozen=True, slots=True)
class Target(Workload):
    """A Deployment that runs vLLM in a way dynawatt understands."""

    settings: VllmSettings
    drain_problem: str | None
    """What to change so that pods finish their requests before they stop; None when they do."""


def read_workload(deployment: KubernetesObject, pods: Sequence[KubernetesObject]) -> Workload:
    """A Deployment with those of its pods that have not ended."""
    running = [pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
    return Workload(deployment, running)


def read_target(workload: Workload | None, *, name: str, container: str | None) -> Target:
    """Understand what a Deployment runs. Raises TargetError."""
    if workload is None:
        raise TargetError(
            Reason.DEPLOYMENT_NOT_FOUND,
            f"Deployment {name!r} does not exist: `spec.deploymentRef.name` must name a Deployment in this namespace",
        )
    pod_spec = workload.deployment["spec"]["template"]["spec"]
    try:
        vllm = find_vllm_container(pod_spec, container)
        settings = vllm_settings(vllm)
    except VllmPodError as error:
        reason = Reason.NO_VLLM_CONTAINER if error.reason in _NO_CONTAINER else Reason.UNSUPPORTED_DEPLOYMENT
        raise TargetError(reason, f"Deployment {name!r}: {error}") from error
    if settings.pipeline_parallel_size * settings.data_parallel_size != 1:
        raise TargetError(
            Reason.UNSUPPORTED_DEPLOYMENT,
            f"Deployment {name!r}: pipeline or data parallelism above 1 is not supported; use tensor parallelism alone",
        )
    return Target(
        deployment=workload.deployment,
        pods=workload.pods,
        settings=settings,
        drain_problem=_drain_problem(pod_spec, settings),
    )


def ready_since(pod: KubernetesObject) -> float | None:
    """Unix time since when a pod is Ready; None when it is not."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return parse_time(condition["lastTransitionTime"]).timestamp()
    return None


def _drain_problem(pod_spec: Mapping[str, Any], settings: VllmSettings) -> str | None:
    grace_s = pod_spec.get("terminationGracePeriodSeconds", 30)
    if settings.shutdown_timeout_s <= 0:
        return (
            "vLLM aborts running requests when a pod stops: add `--shutdown-timeout 60` to its arguments and set "
            "`terminationGracePeriodSeconds: 90`"
        )
    if grace_s <= settings.shutdown_timeout_s:
        return (
            f"`terminationGracePeriodSeconds` is {grace_s}, so the pod is killed before `--shutdown-timeout "
            f"{settings.shutdown_timeout_s:g}` ends: set it to at least {settings.shutdown_timeout_s + 15:g}"
        )
    return None
