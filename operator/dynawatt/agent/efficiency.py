"""Joules per generated token of each pod, over the last minute.

A dashboard can divide the rates of two counters itself. Here joules and tokens are
taken from the same cycles, so that a reading that failed cannot put them apart.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from dynawatt.agent.metering import EnergyKey
from dynawatt.agent.view import PodServing
from dynawatt.ports import PodKey

_WINDOW_S: Final = 60.0


class _Sample(NamedTuple):
    at_s: float
    energy_j: float
    tokens: float


class TokenEnergy:
    """Remembers a minute of every pod's totals. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._history: dict[PodKey, deque[_Sample]] = {}

    def observe(
        self, energy_j: Mapping[EnergyKey, float], serving: Mapping[PodKey, PodServing], now_s: float
    ) -> dict[PodKey, float]:
        """Take the totals of a cycle; J per generated token of the pods that generated any in the last minute."""
        by_pod = pod_energy_j(energy_j)
        self._history = {
            pod: self._appended(pod, _Sample(served.as_of_s, by_pod[pod], served.generation_tokens), now_s)
            for pod, served in serving.items()
            if pod in by_pod and served.generation_tokens is not None
        }
        return {pod: ratio for pod, history in self._history.items() if (ratio := _ratio(history)) is not None}

    def _appended(self, pod: PodKey, sample: _Sample, now_s: float) -> deque[_Sample]:
        history = self._history.get(pod, deque())
        if history and (sample.energy_j < history[-1].energy_j or sample.tokens < history[-1].tokens):
            history.clear()  # its totals began anew
        if not history or sample.at_s > history[-1].at_s:  # while it is not read its tokens lag behind its joules
            history.append(sample)
        while history and history[0].at_s < now_s - _WINDOW_S:
            history.popleft()
        return history


def pod_energy_j(energy_j: Mapping[EnergyKey, float]) -> dict[PodKey, float]:
    """Joules of each pod over all its GPUs; what is nobody's, and what gone pods used, is left out."""
    totals: dict[PodKey, float] = {}
    for key, joules in energy_j.items():
        if key.pod.namespace:
            totals[key.pod] = totals.get(key.pod, 0.0) + joules
    return totals


def _ratio(history: deque[_Sample]) -> float | None:
    if not history:
        return None
    tokens = history[-1].tokens - history[0].tokens
    return (history[-1].energy_j - history[0].energy_j) / tokens if tokens > 0 else None
