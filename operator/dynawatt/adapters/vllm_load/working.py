"""What single pods did over a window: the work, the time it took, the clocks and joules it took it with."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Final, Protocol

from dynawatt.adapters.promql import WHAT
from dynawatt.adapters.vllm_load.queries import CLOCK, WORK
from dynawatt.adapters.vllm_load.scope import Scope
from dynawatt.adapters.vllm_load.source import LoadQuestion
from dynawatt.ports import Sample
from dynawatt.quantities import HZ_PER_MHZ

_SCRAPES: Final = "scrapes"
_NEEDED: Final = ("gaps", "gap_sum_s", "prompt_tokens")


@dataclass(frozen=True, slots=True)
class PodWork:
    """Of one pod."""

    scrapes: int
    """In the window, of vLLM and, where there are joules, of the agent: whichever are fewer."""
    gaps: float
    gap_sum_s: float
    prompt_tokens: float
    """Computed ones, without those found in the prefix cache."""
    prefills: float
    prefill_sum_s: float
    iterations: float | None
    """None where vLLM does not tell, as is what follows where no agent does."""
    energy_j: float | None
    """Of all its GPUs."""
    clocks_mhz: Sequence[float]
    """Mean of its GPUs, samples that stand for equal parts of the window; none where no agent tells."""


class WorkSource(Protocol):
    """Whoever can tell what pods did."""

    async def work(self, question: LoadQuestion, window_s: int) -> Mapping[str, PodWork]:
        """By name of the pod, of those that tell. Raises MetricsUnavailable."""
        ...


def work_from(samples: Sequence[Sample], question: LoadQuestion, scope: Scope) -> dict[str, PodWork]:
    """The answer to the work query. What is no number is not known."""
    by_vllm: dict[str, dict[str, float]] = defaultdict(dict)
    by_agents: dict[str, dict[str, float]] = defaultdict(dict)
    for sample in samples:
        what = sample.labels.get(WHAT, "")
        is_own = what in WORK or what == _SCRAPES
        told, label = (by_vllm, scope.pod_label) if is_own else (by_agents, "pod")
        if isfinite(sample.value):
            told[sample.labels.get(label, "")][what] = sample.value
    found = {}
    for pod in question.pods:
        own, agent = by_vllm[scope.value(pod)], by_agents[pod.name]
        if all(what in own for what in (*_NEEDED, _SCRAPES)):
            found[pod.name] = _pod_work(own, agent)
    return found


def _pod_work(own: Mapping[str, float], agent: Mapping[str, float]) -> PodWork:
    timed = "prefills" in own and "prefill_sum_s" in own
    return PodWork(
        scrapes=round(min(own[_SCRAPES], agent.get("energy_samples", own[_SCRAPES]))),
        gaps=own["gaps"],
        gap_sum_s=own["gap_sum_s"],
        prompt_tokens=max(0.0, own["prompt_tokens"] - own.get("cached_tokens", 0.0)),
        prefills=own["prefills"] if timed else 0.0,
        prefill_sum_s=own["prefill_sum_s"] if timed else 0.0,
        iterations=own.get("iterations"),
        energy_j=agent.get("energy_j"),
        clocks_mhz=tuple(round(value / HZ_PER_MHZ) for what, value in agent.items() if what.startswith(CLOCK)),
    )
