"""What is decided for services, how often, and how they stand."""

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import Metric

from dynawatt.controller.metrics.figures import Shown
from dynawatt.controller.metrics.making import counter, gauge
from dynawatt.planning.service import (
    CANNOT_PLAN,
    GROW_FOR_LOAD,
    MINIMUM_UNREACHABLE,
    RESHAPE_FOR_ENERGY,
    SHRINK_TO_LOAD,
    SLO_UNREACHABLE,
    STEADY,
)

_REASONS: Final = (
    STEADY,
    GROW_FOR_LOAD,
    SHRINK_TO_LOAD,
    RESHAPE_FOR_ENERGY,
    SLO_UNREACHABLE,
    MINIMUM_UNREACHABLE,
    CANNOT_PLAN,
)


def deciding_families(services: Sequence[Shown]) -> Iterator[Metric]:
    """All families about decisions and states."""
    desired = gauge(
        "dynawatt_desired_replicas",
        "Replicas that the last decision asks for, for a HorizontalPodAutoscaler or KEDA with AverageValue 1; "
        "stands while metrics are missing, absent before the first decision and after the LLMService was deleted.",
    )
    replicas = gauge("dynawatt_replicas", "Replicas of each shape that are desired or Ready.", "shape", "state")
    decisions = counter("dynawatt_decisions", "Plans that were made for the service, by reason.", "reason")
    held = counter(
        "dynawatt_held_cycles", "Ticks that held everything as it was because something was not known.", "reason"
    )
    age = gauge("dynawatt_reconcile_age_seconds", "Time since the last tick of the service was finished.")
    condition = gauge("dynawatt_condition", "1 for the status that each condition has.", "type", "status")
    for shown in services:
        key, figures = shown.key, shown.figures
        desired.add(key, figures.desired_replicas)
        for (shape, state), count in figures.replicas.items():
            replicas.add(key, count, shape, state)
        # Told before they happen: to Prometheus, a counter that appears has not risen.
        for reason, count in (dict.fromkeys(_REASONS, 0) | dict(shown.decisions)).items():
            decisions.add(key, count, reason)
        for reason, count in shown.held.items():
            held.add(key, count, reason)
        age.add(key, shown.age_s)
        for type_, status in figures.conditions.items():
            condition.add(key, 1, type_, status)
    yield from (samples.family for samples in (desired, replicas, decisions, held, age, condition))
