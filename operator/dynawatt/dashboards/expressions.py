"""PromQL that rules and panels share.

Series of vLLM and of agents are about pods. Which LLMService a pod belongs to the
operator says, in every mode: PODS is recorded from it, and joined. Whatever comes
from the operator is aggregated before it is joined, because for a few minutes after
a restart both its old and its new series are there.
"""

from typing import Final

from dynawatt.adapters.vllm_names import series_names

SERVICE: Final = "namespace, llmservice"
"""Labels that name an LLMService."""
PODS: Final = "pod:dynawatt_llmservice:info"
"""Recorded: 1 for each pod, with its llmservice and shape."""
WINDOW: Final = "5m"
"""Of rates that are recorded: holds ten scrapes at the usual 30 s."""


def by_service(metric: str, *labels: str) -> str:
    """What the operator says of services, once each."""
    return f"max by ({', '.join([SERVICE, *labels])}) ({metric})"


def by_pod(expression: str, how: str = "sum") -> str:
    """Agents label series with an LLMService once a pod carries a claim: joined as they are, a pod would have two."""
    return f"{how} by (namespace, pod) ({expression})"


def of_services(expression: str, *labels: str, how: str = "sum") -> str:
    """Series of pods, aggregated by the service they belong to."""
    return (
        f"{how} by ({', '.join([SERVICE, *labels])}) (\n"
        f"  {expression}\n"
        f"  * on (namespace, pod) group_left (llmservice) {PODS}\n"
        ")"
    )


def rate_of(family: tuple[str, ...], suffix: str, window: str = WINDOW) -> str:
    """Rate of a family of vLLM by the newest of its names that a pod has; pods that two jobs scrape count once."""
    labels = "namespace, pod, engine" + (", le" if suffix == "_bucket" else "")
    rates = [f"rate({name}[{window}])" for name in series_names(family, suffix)]
    return f"max by ({labels}) ({' or '.join(rates)})"


def value_of(family: tuple[str, ...]) -> str:
    """A gauge of vLLM likewise."""
    return f"max by (namespace, pod, engine) ({' or '.join(series_names(family))})"
