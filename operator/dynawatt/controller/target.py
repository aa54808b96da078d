"""The Deployment of an LLMService as dynawatt understands it, or why it cannot be managed."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.kubernetes.cluster import parse_time
from dynawatt.adapters.vllm_args import VllmPodError, VllmSettings
from dynawatt.api.conditions import Reason
from dynawatt.controller.shapes.drain import drain_problem
from dynawatt.controller.shapes.probes import startup_budget_s
from dynawatt.controller.shapes.template import read_template

_NO_CONTAINER = {"ContainerNotFound", "NoVllmContainer", "AmbiguousContainer"}
_LONGEST_STARTUP_S: Final = 3600.0
UNKNOWN_WRITER: Final = "somebody"


class TargetError(Exception):
    """The Deployment cannot be managed; nothing is touched."""

    def __init__(self, reason: Reason, message: str) -> None:
        """``reason`` goes into the Ready condition, the message is for people."""
        super().__init__(message)
        self.reason = reason


class Start(NamedTuple):
    """Of a pod."""

    ready_s: float
    """Unix time."""
    took_s: float
    """From its creation."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment and its pods, read at one moment, whatever they run: enough to give everything back."""

    deployment: KubernetesObject
    pods: Sequence[KubernetesObject]
    """All pods that have not ended, those that are stopping included."""

    @property
    def name(self) -> str:
        """Of the Deployment."""
        name: str = self.deployment["metadata"]["name"]
        return name

    @property
    def replicas(self) -> int:
        """Desired replicas of the Deployment."""
        replicas: int = self.deployment["spec"].get("replicas", 1)
        return replicas

    @property
    def replicas_writer(self) -> str:
        """Field manager that last set the replicas, as the API server recorded it.

        UNKNOWN_WRITER after they were scaled to nothing: a Scale leaves a zero out, and of a field that nobody owns the
        API server records no later writers either.
        """
        owners = [
            entry
            for entry in self.deployment["metadata"].get("managedFields") or ()
            if "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        ]
        return max(owners, key=lambda entry: entry.get("time", ""))["manager"] if owners else UNKNOWN_WRITER

    @property
    def serving_pods(self) -> list[KubernetesObject]:
        """Ready pods that are not stopping."""
        return [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"] and ready_since(pod)]

    @property
    def live_pods(self) -> list[KubernetesObject]:
        """Scheduled pods that are not stopping, Ready or not: the ones that carry claims."""
        return [pod for pod in self.pods if "deletionTimestamp" not in pod["metadata"] and pod["spec"].get("nodeName")]

    def overdue_pods(self, after_s: float, now_s: float) -> list[KubernetesObject]:
        """Pods that have not been Ready for so long, scheduled or not; ``now_s`` is Unix time.

        One that was Ready before, and starts again after a crash, is given the same time as a new one.
        """
        return [
            pod
            for pod in self.pods
            if "deletionTimestamp" not in pod["metadata"] and (since := unready_since(pod)) and now_s - since > after_s
        ]

    @property
    def starts(self) -> dict[str, Start]:
        """Of the pods that are Ready, by their uid.

        A pod whose probe failed for a moment later on is Ready since then, which says nothing about its start: times
        that no start takes are left out.
        """
        found = {
            pod["metadata"]["uid"]: Start(
                since_s, since_s - parse_time(pod["metadata"]["creationTimestamp"]).timestamp()
            )
            for pod in self.pods
            if (since_s := ready_since(pod)) is not None
        }
        return {uid: start for uid, start in found.items() if 0 <= start.took_s <= _LONGEST_STARTUP_S}

    def startup_s(self, default_s: float) -> float:
        """Median time that these starts took."""
        times = [start.took_s for start in self.starts.values()]
        return statistics.median(times) if times else default_s


class _Reading(NamedTuple):
    """What a pod template was understood as."""

    shape: str
    settings: VllmSettings
    drain_problem: str | None
    startup_budget_s: int | None


@dataclass(frozen=True, slots=True)
class ShapedWorkload(Workload):
    """One of the Deployments of a service, all of whose replicas are of one shape.

    After an edit nobody may understand any more what it runs. Who asks how then gets a TargetError; to give replicas
    back nobody has to ask.
    """

    reading: _Reading | TargetError

    @property
    def is_understood(self) -> bool:
        """Whether what it runs is known."""
        return not isinstance(self.reading, TargetError)

    @property
    def shape(self) -> str:
        """What the planner calls it; ``unknown`` where it is not understood."""
        return self.reading.shape if isinstance(self.reading, _Reading) else "unknown"

    @property
    def settings(self) -> VllmSettings:
        """How vLLM is started. Raises TargetError."""
        return self._understood.settings

    @property
    def drain_problem(self) -> str | None:
        """What to change so that pods finish their requests before they stop; None when they do. Raises TargetError."""
        return self._understood.drain_problem

    @property
    def startup_budget_s(self) -> int | None:
        """Seconds until probes give up on a pod that starts; None when none does. Raises TargetError."""
        return self._understood.startup_budget_s

    @property
    def _understood(self) -> _Reading:
        if isinstance(self.reading, TargetError):
            raise self.reading
        return self.reading


@dataclass(frozen=True, slots=True)
class Target:
    """The Deployments of a service."""

    template: ShapedWorkload
    """The user's own, which further shapes are made from."""
    siblings: Sequence[ShapedWorkload]
    """Those that the operator made."""

    @property
    def drain_problem(self) -> str | None:
        """What to change so that pods finish their requests before they stop; None when they do. Raises TargetError."""
        return self.template.drain_problem

    @property
    def workloads(self) -> Sequence[ShapedWorkload]:
        """All of them, the user's own first."""
        return [self.template, *self.siblings]

    @property
    def settings(self) -> VllmSettings:
        """Of the user's own Deployment. Raises TargetError."""
        return self.template.settings

    @property
    def replicas(self) -> int:
        """Desired ones of all shapes."""
        return sum(workload.replicas for workload in self.workloads)

    @property
    def pods(self) -> list[KubernetesObject]:
        """All pods that have not ended, those that are stopping included."""
        return [pod for workload in self.workloads for pod in workload.pods]

    @property
    def serving_pods(self) -> list[KubernetesObject]:
        """Ready pods that are not stopping."""
        return [pod for workload in self.workloads for pod in workload.serving_pods]

    @property
    def live_pods(self) -> list[KubernetesObject]:
        """Scheduled pods that are not stopping, Ready or not."""
        return [pod for workload in self.workloads for pod in workload.live_pods]


def shape_name(tensor_parallel_size: int) -> str:
    """What the planner calls a shape: siblings differ from the user's Deployment in their tensor-parallel size."""
    return f"tp{tensor_parallel_size}"


def read_workload(deployment: KubernetesObject, pods: Sequence[KubernetesObject]) -> Workload:
    """A Deployment with those of its pods that have not ended."""
    running = [pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]
    return Workload(deployment, running)


def read_target(
    workload: Workload | None, siblings: Sequence[Workload] = (), *, name: str, container: str | None
) -> Target:
    """Understand what the Deployments of a service run, as far as that can be. Raises TargetError if there is none."""
    if workload is None:
        raise TargetError(
            Reason.DEPLOYMENT_NOT_FOUND,
            f"Deployment {name!r} does not exist: `spec.deploymentRef.name` must name a Deployment in this namespace",
        )
    shaped = _shaped(workload, container)
    return Target(shaped, [_distinct(_shaped(sibling, container), shaped) for sibling in siblings])


def _distinct(sibling: ShapedWorkload, template: ShapedWorkload) -> ShapedWorkload:
    """A template that was edited may have become what one of its siblings is."""
    own, other = template.reading, sibling.reading
    if isinstance(own, TargetError) or isinstance(other, TargetError) or own.shape != other.shape:
        return sibling
    return replace(sibling, reading=other._replace(shape=f"{other.shape}-sibling"))


def _shaped(workload: Workload, container: str | None) -> ShapedWorkload:
    try:
        reading: _Reading | TargetError = _read(workload.deployment, container)
    except TargetError as error:
        reading = error
    return ShapedWorkload(workload.deployment, workload.pods, reading)


def _read(deployment: KubernetesObject, container: str | None) -> _Reading:
    name = deployment["metadata"]["name"]
    try:
        template = read_template(deployment, container)
    except VllmPodError as error:
        reason = Reason.NO_VLLM_CONTAINER if error.reason in _NO_CONTAINER else Reason.UNSUPPORTED_DEPLOYMENT
        raise TargetError(reason, f"Deployment {name!r}: {error}") from error
    settings = template.settings
    if settings.pipeline_parallel_size * settings.data_parallel_size != 1:
        raise TargetError(
            Reason.UNSUPPORTED_DEPLOYMENT,
            f"Deployment {name!r}: pipeline or data parallelism above 1 is not supported; use tensor parallelism alone",
        )
    return _Reading(
        shape_name(settings.tensor_parallel_size),
        settings,
        drain_problem(template.pod_spec, template.container, settings),
        startup_budget_s(template.container),
    )


def unready_since(pod: KubernetesObject) -> float | None:
    """Unix time since when a pod is not Ready; None when it is."""
    if ready_since(pod) is not None:
        return None
    changes = [
        one["lastTransitionTime"] for one in pod.get("status", {}).get("conditions") or () if one["type"] == "Ready"
    ]
    return parse_time(changes[0] if changes else pod["metadata"]["creationTimestamp"]).timestamp()


def ready_since(pod: KubernetesObject) -> float | None:
    """Unix time since when a pod is Ready; None when it is not."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "True":
            return parse_time(condition["lastTransitionTime"]).timestamp()
    return None
