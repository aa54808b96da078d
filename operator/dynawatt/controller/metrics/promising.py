"""What is promised to the users of services, by which pods, and how far it is certainly kept."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from dynawatt.controller.metrics.figures import Shown
from dynawatt.controller.metrics.making import gauge


def promising_families(services: Sequence[Shown]) -> Iterator[Metric]:
    """All families about SLOs and the pods that must meet them."""
    pods = gauge(
        "dynawatt_pod_info",
        "1 for every pod of the service that has not ended, of all its shapes: to join metrics of pods with it.",
        "pod",
        "shape",
    )
    target = gauge(
        "dynawatt_slo_target_ratio", "Fraction of requests, and of gaps between tokens, that the SLO wants in time."
    )
    objective = gauge(
        "dynawatt_slo_objective_seconds",
        "Objective for the first token (ttft) by number of input tokens, and for gaps between tokens (tbt).",
        "objective",
        "inputs",
    )
    bounds = gauge(
        "dynawatt_slo_ttft_attainment_bound_ratio",
        "Least (low) and most (high) of the requests whose first token can have been in time, by number of input "
        "tokens; vLLM measures all lengths together, and this is what is certain of each.",
        "inputs",
        "bound",
    )
    for shown in services:
        key, figures = shown.key, shown.figures
        for pod, shape in figures.pods.items():
            pods.add(key, 1, pod, shape)
        target.add(key, figures.slo_target)
        for (name, inputs), objective_s in figures.objectives_s.items():
            objective.add(key, objective_s, name, inputs)
        for inputs, found in figures.ttft_bounds.items():
            bounds.add(key, found.low, inputs, "low")
            bounds.add(key, found.high, inputs, "high")
    yield from (samples.family for samples in (pods, target, objective, bounds))
