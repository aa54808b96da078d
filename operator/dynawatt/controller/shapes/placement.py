"""Which nodes the replicas of a service share."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dynawatt.controller.shapes.selectors import selects

_HOSTNAME: Final = "kubernetes.io/hostname"
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_WEIGHT: Final = 1
"""Alone it decides as much as 100 would; beside preferences of the user's own it gives way."""


def packed(pod_spec: Mapping[str, Any], service_pods: Mapping[str, Any]) -> dict[str, Any]:
    """A pod spec that prefers nodes on which pods of its service run already, so that other nodes empty."""
    term = {
        "weight": _WEIGHT,
        "podAffinityTerm": {"labelSelector": dict(service_pods), "topologyKey": _HOSTNAME},
    }
    affinity = pod_spec.get("affinity") or {}
    pod_affinity = affinity.get("podAffinity") or {}
    preferred = [*(pod_affinity.get(_PREFERRED) or ()), term]
    return {**pod_spec, "affinity": {**affinity, "podAffinity": {**pod_affinity, _PREFERRED: preferred}}}


def keeps_apart(pod_spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether pods with these labels refuse to share a node with one another."""
    return any(
        term.get("topologyKey") == _HOSTNAME and selects(term.get("labelSelector"), labels)
        for term in _required_anti_affinity(pod_spec)
    )


def _required_anti_affinity(pod_spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    anti_affinity = (pod_spec.get("affinity") or {}).get("podAntiAffinity") or {}
    yield from anti_affinity.get(_REQUIRED) or ()
