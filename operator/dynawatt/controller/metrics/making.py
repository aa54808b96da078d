"""Metric families about services: every sample names its service, and a value that is not known makes no sample.

The label is named ``llmservice`` like the kind, as kube-state-metrics does and the
agents do for the same service, so that both can be joined on it.
"""

from typing import Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from dynawatt.controller.metrics.figures import ServiceKey

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily

SERVICE: Final = ("namespace", "llmservice")


class Samples:
    """A family that is being filled."""

    def __init__(self, family: Family) -> None:
        self.family: Final = family

    def add(self, key: ServiceKey, value: float | None, *labels: str) -> None:
        """One sample with the values of the labels after the service; none where the value is not known."""
        if value is not None:
            self.family.add_metric((*key, *labels), value)


def counter(name: str, text: str, *labels: str) -> Samples:
    """A counter; ``_total`` is added to its name."""
    return Samples(CounterMetricFamily(name, text, None, (*SERVICE, *labels)))


def gauge(name: str, text: str, *labels: str) -> Samples:
    """A gauge."""
    return Samples(GaugeMetricFamily(name, text, None, (*SERVICE, *labels)))
