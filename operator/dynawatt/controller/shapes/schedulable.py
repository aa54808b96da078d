"""Which nodes the pods of a template may use: what Kubernetes' scheduler filters by, beside free resources.

That is taints, cordons, node selector and required node affinity. Preferences
keep no pod away, and of pods on other nodes nothing is known here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.controller.shapes.node_affinity import Term, required_terms

_KEEPS_AWAY: Final = ("NoSchedule", "NoExecute")


class Taint(NamedTuple):
    """One that keeps pods away."""

    key: str
    value: str
    effect: str

    def __str__(self) -> str:
        """As kubectl takes it."""
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


class Place(NamedTuple):
    """A node as the scheduler looks at it."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...] = ()
    closed: str = ""
    """Why it takes no pod at all, such as ``cordoned``; empty while it does."""


class Toleration(NamedTuple):
    """Of taints; an empty key or effect stands for all."""

    key: str
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """Whether a pod with it may stay in spite of a taint."""
        if self.effect not in ("", taint.effect):
            return False
        if self.operator == "Exists":
            return self.key in ("", taint.key)
        return self.operator == "Equal" and (self.key, self.value) == (taint.key, taint.value)


class PodNeeds(NamedTuple):
    """What a pod template asks of its nodes; equal templates have equal needs."""

    node_name: str = ""
    """The only node; empty where the scheduler chooses."""
    selector: tuple[tuple[str, str], ...] = ()
    terms: tuple[Term, ...] | None = None
    """Required node affinity, of which one term must match; None without any."""
    tolerations: tuple[Toleration, ...] = ()


def pod_needs(pod_spec: Mapping[str, Any]) -> PodNeeds:
    """What a pod spec says about nodes."""
    return PodNeeds(
        node_name=pod_spec.get("nodeName") or "",
        selector=tuple(sorted((pod_spec.get("nodeSelector") or {}).items())),
        terms=required_terms(pod_spec),
        tolerations=tuple(_toleration(each) for each in pod_spec.get("tolerations") or () if _lasts(each)),
    )


def place_of(node: KubernetesObject) -> Place:
    """What a node shows the scheduler."""
    metadata, spec = node["metadata"], node.get("spec") or {}
    taints = tuple(
        Taint(each["key"], each.get("value") or "", each["effect"])
        for each in spec.get("taints") or ()
        if each["effect"] in _KEEPS_AWAY
    )
    return Place(metadata["name"], metadata.get("labels") or {}, taints, _closed(node))


def obstacle(needs: PodNeeds, place: Place) -> str:
    """Why a node takes no pods of a template, to be read after "it is"; empty where it does.

    A cordoned node counts as closed to all: a pod that tolerates the cordon's taint may be placed there, but whoever
    cordons a node wants it to become empty.
    """
    if place.closed:
        return place.closed
    if needs.node_name not in ("", place.name):
        return f"not {needs.node_name}, which the template names as its node"
    missing = [f"{key}={value}" for key, value in needs.selector if place.labels.get(key) != value]
    if missing:
        return f"without {', '.join(missing)} of the template's nodeSelector"
    if needs.terms is not None and not any(term.admits(place.name, place.labels) for term in needs.terms):
        return "not matched by the template's required node affinity"
    repelling = [taint for taint in place.taints if not any(each.covers(taint) for each in needs.tolerations)]
    return f"tainted {', '.join(map(str, repelling))} that the template does not tolerate" if repelling else ""


def _closed(node: KubernetesObject) -> str:
    conditions: Sequence[Mapping[str, Any]] = (node.get("status") or {}).get("conditions") or ()
    if not any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
        return "not Ready"
    return "cordoned" if (node.get("spec") or {}).get("unschedulable", False) else ""


def _lasts(toleration: Mapping[str, Any]) -> bool:
    """A pod that is evicted after so many seconds does not count as one that may run there."""
    return toleration.get("tolerationSeconds") is None


def _toleration(toleration: Mapping[str, Any]) -> Toleration:
    names = ("key", "operator", "value", "effect")
    return Toleration(**{"key": "", **{name: toleration[name] for name in names if toleration.get(name)}})
