"""What pods use and serve, and what their governors do.

``llmservice`` is the name of the LLMService of a pod, in the pod's namespace, and
empty without one. Labels are named like the kinds they name, as kube-state-metrics
does; ``service`` would be taken for the Service that Prometheus found the agent by.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.core import Metric

from dynawatt.agent.efficiency import pod_energy_j
from dynawatt.agent.families.making import Families
from dynawatt.agent.governing import REASONS
from dynawatt.agent.view import NodeView
from dynawatt.ports import PodKey
from dynawatt.quantities import HZ_PER_MHZ

_POD: Final = ("namespace", "pod")
_SERVING: Final = (*_POD, "llmservice")


def pod_families(make: Families, view: NodeView, token_energy_j: Mapping[PodKey, float]) -> Iterator[Metric]:
    """All families about pods; ``token_energy_j`` is J per generated token."""
    energy = make.counter(
        "dynawatt_pod_energy_joules", "Energy of all GPUs of a pod; shared GPUs are left out.", *_SERVING
    )
    for pod, joules in pod_energy_j(view.energy_j).items():
        energy.add(joules, *pod, _service(view, pod))
    yield energy.family
    yield from _served(make, view)
    per_token = make.gauge(
        "dynawatt_pod_energy_per_token_joules",
        "Energy of all GPUs of a pod over the tokens it generated, in the last minute; absent when it generated none.",
        *_SERVING,
    )
    for pod, joules in token_energy_j.items():
        per_token.add(joules, *pod, _service(view, pod))
    yield per_token.family
    yield from _governors(make, view)


def _served(make: Families, view: NodeView) -> Iterator[Metric]:
    tokens = make.counter(
        "dynawatt_pod_tokens", "Tokens of a vLLM pod since the agent first read it.", *_SERVING, "kind"
    )
    requests = make.counter(
        "dynawatt_pod_requests", "Requests that a vLLM pod finished since the agent first read it.", *_SERVING
    )
    dispersion = make.gauge(
        "dynawatt_pod_arrival_dispersion",
        "Variance over mean of requests that arrive per second, in the last five minutes: 1 for Poisson arrivals.",
        *_SERVING,
    )
    for pod, served in view.serving.items():
        labels = (*pod, _service(view, pod))
        tokens.add(served.prompt_tokens, *labels, "prompt")
        tokens.add(served.generation_tokens, *labels, "generation")
        requests.add(served.requests, *labels)
        dispersion.add(served.arrival_dispersion, *labels)
    yield from (tokens.family, requests.family, dispersion.family)


def _governors(make: Families, view: NodeView) -> Iterator[Metric]:
    clock = make.gauge(
        "dynawatt_governor_clock_hertz",
        "SM clock chosen for a pod, before it is fitted to what its GPUs support.",
        *_POD,
    )
    reason = make.gauge(
        "dynawatt_governor_reason",
        "1 for why it was chosen: starting and blind (load unknown) and burning (error budget) are the ceiling.",
        *_POD,
        "reason",
    )
    for pod, governed in view.governed.items():
        clock.add(governed.clock_mhz * HZ_PER_MHZ, *pod)
        for name in REASONS:
            reason.add(name == governed.reason, *pod, name)
    yield from (clock.family, reason.family)


def _service(view: NodeView, pod: PodKey) -> str:
    served = view.serving.get(pod)
    return served.service.rpartition("/")[2] if served is not None else ""
