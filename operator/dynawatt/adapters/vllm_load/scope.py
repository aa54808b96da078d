"""How a Prometheus labels the series of a service's pods.

vLLM itself names neither pod nor namespace. Scraping adds both, under names that
depend on who wrote the configuration, and a Prometheus that scrapes another one
keeps its own pod under ``pod`` and moves the real one to ``exported_pod``. So labels
are not judged by their names: those count whose values are our pods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from dynawatt.adapters.promql import equals, joined, one_of, union
from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.adapters.vllm_names import RUNNING, series_names
from dynawatt.ports import MetricsSource, MetricsUnavailable, Sample

POD_LABELS: Final = ("pod", "exported_pod", "pod_name", "kubernetes_pod_name", "kubernetes_pod", "k8s_pod_name")
NAMESPACE_LABELS: Final = (
    "namespace", "exported_namespace", "kubernetes_namespace", "namespace_name", "kube_namespace", "k8s_namespace_name",
)  # fmt: skip
ADDRESS_LABEL: Final = "instance"
"""``address:port``, which is what a target is called unless something else was asked for."""
_SERIES: Final = series_names(RUNNING)[0]
_ENOUGH_PODS: Final = 20
"""To see how they are labelled."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which labels tell the pods of a service."""

    pod_label: str
    namespace_label: str
    """Empty where none tells."""

    @property
    def is_by_address(self) -> bool:
        """Whether pods are told by their address, which another pod may get after them."""
        return self.pod_label == ADDRESS_LABEL

    def value(self, pod: WatchedPod) -> str:
        """Of the pod label."""
        return _target(pod) if self.is_by_address else pod.name

    def selector(self, namespace: str, pods: Sequence[WatchedPod]) -> str:
        """Label matchers of the series of these pods."""
        return joined(self.namespace_matcher(namespace), one_of(self.pod_label, sorted(map(self.value, pods))))

    def namespace_matcher(self, namespace: str) -> str:
        """Label matcher, empty where no label tells."""
        return equals(self.namespace_label, namespace) if self.namespace_label else ""


async def find_scope(source: MetricsSource, question: LoadQuestion) -> Scope:
    """Find the labels with one query over a family that has one series per engine.

    Raises MetricsUnavailable when no label tells any of the pods.
    """
    pods = sorted(question.pods, key=lambda pod: not pod.expected)[:_ENOUGH_PODS]
    if not pods:
        raise MetricsUnavailable(f"Deployment {question.deployment} has no pod that could be asked about")
    names, targets = [pod.name for pod in pods], [_target(pod) for pod in pods if pod.address]
    matchers = [one_of(label, names) for label in POD_LABELS] + ([one_of(ADDRESS_LABEL, targets)] if targets else [])
    labels = ",".join((*POD_LABELS, *NAMESPACE_LABELS, ADDRESS_LABEL))
    found = await source.query(f"group by ({labels}) ({union([f'{_SERIES}{{{each}}}' for each in matchers])})")
    scopes = [Scope(*pair) for pair in product((*POD_LABELS, ADDRESS_LABEL), (*NAMESPACE_LABELS, ""))]
    covered = {scope: _covered(scope, question.namespace, pods, found) for scope in scopes}
    best = max(scopes, key=covered.__getitem__)  # of equally good ones the first
    if covered[best]:
        return best
    raise MetricsUnavailable(_not_found(question, pods[0], len(pods), found))


def _covered(scope: Scope, namespace: str, pods: Sequence[WatchedPod], found: Sequence[Sample]) -> int:
    """How many of the pods have series that these labels tell."""
    wanted = {scope.value(pod) for pod in pods if pod.address or not scope.is_by_address}
    return len(
        {
            sample.labels[scope.pod_label]
            for sample in found
            if sample.labels.get(scope.pod_label) in wanted and _is_in(scope, namespace, sample.labels)
        }
    )


def _is_in(scope: Scope, namespace: str, labels: Mapping[str, str]) -> bool:
    if scope.namespace_label:
        return labels.get(scope.namespace_label) == namespace
    return not any(label in labels for label in NAMESPACE_LABELS)


def _target(pod: WatchedPod) -> str:
    return f"[{pod.address}]:{pod.port}" if ":" in pod.address else f"{pod.address}:{pod.port}"


def _not_found(question: LoadQuestion, pod: WatchedPod, count: int, found: Sequence[Sample]) -> str:
    others = f" and {count - 1} more" if count > 1 else ""
    if found:
        elsewhere = {value for each in found for label, value in each.labels.items() if label in NAMESPACE_LABELS}
        return (
            f"{_SERIES} of pod {pod.name}{others} is labelled with namespace {', '.join(sorted(elsewhere))}, not "
            f"{question.namespace}: let the scrape configuration set the label namespace from "
            "__meta_kubernetes_namespace"
        )
    return (
        f"{_SERIES} has no series of pod {pod.name}{others}, by none of the labels {', '.join(POD_LABELS)}, "
        f"{ADDRESS_LABEL}: does Prometheus scrape the vLLM pods? Let a PodMonitor select them, or set the label "
        "pod from __meta_kubernetes_pod_name"
    )
