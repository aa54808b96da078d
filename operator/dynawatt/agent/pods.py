"""The pods of this node as the API gives them: which they are, and where those that run vLLM serve their metrics."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from dynawatt.adapters.vllm_args import VllmPodError, find_vllm_container, vllm_settings
from dynawatt.ports import PodKey

_OVER: Final = frozenset({"Succeeded", "Failed"})


class PodFacts(NamedTuple):
    """One pod."""

    uid: str
    phase: str
    address: str | None
    """Its IP; None before it has one."""
    port: int | None
    """Where its vLLM serves /metrics; None when it runs none, or one whose arguments cannot be read."""

    @property
    def over(self) -> bool:
        """Whether all its containers have ended for good."""
        return self.phase in _OVER


def pod_facts(pods: Iterable[Mapping[str, Any]]) -> dict[PodKey, PodFacts]:
    """What is known of each pod."""
    facts: dict[PodKey, PodFacts] = {}
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        uid = metadata.get("uid", "")
        facts[PodKey(metadata["namespace"], metadata["name"])] = PodFacts(
            uid=uid,
            phase=status.get("phase", ""),
            address=status.get("podIP"),
            port=_port(_Spec(uid, pod.get("spec") or {})),
        )
    return facts


class _Spec:
    """A pod's spec, whose containers and arguments never change, by the pod's uid."""

    def __init__(self, uid: str, spec: Mapping[str, Any]) -> None:
        self.uid = uid
        self.spec = spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Spec) and self.uid == other.uid

    def __hash__(self) -> int:
        return hash(self.uid)


@lru_cache(maxsize=512)
def _port(spec: _Spec) -> int | None:
    try:
        return vllm_settings(find_vllm_container(spec.spec)).port
    except VllmPodError:
        return None
