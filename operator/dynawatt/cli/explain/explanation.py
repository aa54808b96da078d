"""An LLMService explained: what the page shows and ``--json`` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.adapters.kubernetes.cluster import parse_time
from dynawatt.api.llmservice import SLO, LLMServiceSpec
from dynawatt.api.llmservice_status import LLMServiceStatus
from dynawatt.cli.explain.clocks import PodClocks, compare
from dynawatt.cli.explain.coming import Step, whats_next
from dynawatt.cli.explain.findings import Findings
from dynawatt.cli.explain.judging import Judged, Standing, judge
from dynawatt.cli.explain.reading import read_leniently

_MOST_EVENTS: Final = 5


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, as an Event tells it."""

    time: datetime
    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Replicas:
    """What one Deployment runs: counts as the cluster has them now, the rest as the operator last wrote it."""

    deployment: str
    ready: int
    desired: int
    gpu_product: str = ""
    tensor_parallel: int | None = None
    clock_mhz: str = ""
    """SM clocks that are claimed, such as 800-1980; empty at default clocks."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a service is as it is, and what comes next."""

    namespace: str
    name: str
    deployment: str
    now: datetime
    spec: LLMServiceSpec | None
    """None when nothing of it is understood."""
    status: LLMServiceStatus
    conditions: Sequence[Judged]
    replicas: Sequence[Replicas]
    """By Deployment."""
    clocks: Sequence[PodClocks]
    events: Sequence[Event]
    """The latest, newest first."""
    next: Sequence[Step]
    not_understood: Sequence[str]
    """Fields of spec and status of another version."""
    unread: Mapping[str, str]
    """What could not be read from the cluster, with the reason."""

    def by_standing(self, *standings: Standing) -> list[Judged]:
        """Conditions of these standings in their order."""
        return [condition for condition in self.conditions if condition.standing in standings]

    @property
    def attention(self) -> list[Judged]:
        """Conditions that are not as they should be; what only repeats another one in Ready is left out."""
        bad = self.by_standing(Standing.BAD)
        others = {condition.reason for condition in bad if condition.type != "Ready"}
        return [condition for condition in bad if condition.type != "Ready" or condition.reason not in others]


def explain(found: Findings, *, now: datetime) -> Explanation:
    """Explain what was found; ``now`` must carry a time zone."""
    metadata, fields = found.service["metadata"], found.service["spec"]
    namespace, name = metadata["namespace"], metadata["name"]
    deployment = str(fields["deploymentRef"]["name"])
    spec, odd_spec = read_leniently(LLMServiceSpec, fields)
    status, odd_status = read_leniently(LLMServiceStatus, found.service.get("status") or {})
    status = status or LLMServiceStatus()
    conditions = judge(status.conditions, namespace=namespace, name=name, deployment=deployment)
    return Explanation(
        namespace=namespace,
        name=name,
        deployment=deployment,
        now=now,
        spec=spec,
        status=status,
        conditions=conditions,
        replicas=_replicas(found.deployments, status, deployment),
        clocks=compare(found.pods, None if "gpu_nodes" in found.unread else found.gpu_nodes, f"{namespace}/{name}"),
        events=_events(found.events),
        next=whats_next(found, spec=spec, status=status, conditions=conditions, now=now),
        not_understood=[
            *(["spec"] if spec is None else [f"spec.{path}" for path in odd_spec]),
            *(f"status.{path}" for path in odd_status),
        ],
        unread=found.unread,
    )


def slo_text(slo: SLO) -> str:
    """The objectives as a sentence."""
    entries = slo.time_to_first_token
    if len(entries) == 1:
        ttft = f"within {entries[0].milliseconds:,} ms"
    else:
        bounded = [f"{entry.milliseconds:,} ms up to {entry.max_input_tokens:,} tokens" for entry in entries[:-1]]
        ttft = f"within {', '.join(bounded)}, {entries[-1].milliseconds:,} ms beyond"
    return (
        f"{slo.percentile}% of first tokens {ttft}; of gaps between tokens within {slo.inter_token_milliseconds:,} ms"
    )


def _replicas(deployments: Sequence[KubernetesObject], status: LLMServiceStatus, deployment: str) -> list[Replicas]:
    """One line for each Deployment that the status or the cluster knows."""
    now = {found["metadata"]["name"]: found for found in deployments}
    rows = []
    for shape in status.shapes:
        name = shape.deployment or deployment
        found = now.pop(name, None)
        ready, desired = (shape.ready_replicas, shape.desired_replicas) if found is None else _counts(found)
        clock = "" if shape.clock is None else str(shape.clock)
        rows.append(Replicas(name, ready, desired, shape.gpu_product, shape.tensor_parallel_size, clock))
    return rows + [Replicas(name, *_counts(found)) for name, found in now.items()]


def _counts(deployment: KubernetesObject) -> tuple[int, int]:
    """Ready and desired replicas."""
    desired = deployment["spec"].get("replicas", 1)
    return (deployment.get("status") or {}).get("readyReplicas") or 0, 1 if desired is None else desired


def _events(events: Sequence[KubernetesObject]) -> list[Event]:
    told = [
        Event(parse_time(time), event.get("type", ""), event.get("reason", ""), event.get("message", ""))
        for event in events
        if (time := event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))
    ]
    return sorted(told, key=lambda event: event.time, reverse=True)[:_MOST_EVENTS]
