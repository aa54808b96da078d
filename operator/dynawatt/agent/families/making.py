"""Metric families of one node: every sample carries the node, and a value that is not known makes no sample."""

from typing import Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily


class Families:
    """Makes the families of one node."""

    def __init__(self, node: str) -> None:
        self.node: Final = node

    def counter(self, name: str, text: str, *labels: str) -> "Samples":
        """A counter; ``_total`` is added to its name."""
        return Samples(CounterMetricFamily(name, text, None, ("node", *labels)), self.node)

    def gauge(self, name: str, text: str, *labels: str) -> "Samples":
        """A gauge."""
        return Samples(GaugeMetricFamily(name, text, None, ("node", *labels)), self.node)


class Samples:
    """A family that is being filled."""

    def __init__(self, family: Family, node: str) -> None:
        self.family: Final = family
        self._node = node

    def add(self, value: float | None, *labels: str) -> "Samples":
        """One sample with the values of the labels after the node; none where the value is not known."""
        if value is not None:
            self.family.add_metric((self._node, *labels), value)
        return self
