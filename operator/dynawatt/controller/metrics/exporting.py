"""The operator's ``/metrics``.

They are about LLMServices and carry their namespaces as ``namespace``: scrape the
operator with ``honor_labels: true``, or Prometheus puts the operator's own there.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from dynawatt.adapters.metrics_server import MetricsServer
from dynawatt.controller.metrics.deciding import deciding_families
from dynawatt.controller.metrics.figures import Figures
from dynawatt.controller.metrics.modelling import modelling_families
from dynawatt.controller.metrics.promising import promising_families
from dynawatt.controller.metrics.saving import saving_families
from dynawatt.controller.metrics.working import Work


class OperatorCollector(Collector):
    """Renders what is known when it is asked."""

    def __init__(self, figures: Figures, work: Work) -> None:
        self._figures = figures
        self._work = work

    def collect(self) -> Iterator[Metric]:
        """All families."""
        services = self._figures.shown()
        yield from deciding_families(services)
        yield from modelling_families(services)
        yield from promising_families(services)
        yield from saving_families(services)
        yield from self._work.families()


def operator_registry(figures: Figures, work: Work) -> CollectorRegistry:
    """The operator's own metrics, and those of its process."""
    registry = CollectorRegistry()
    registry.register(OperatorCollector(figures, work))
    ProcessCollector(registry=registry)
    return registry


def metrics_server(
    figures: Figures, work: Work, *, address: str, port: int, health: Callable[[], str]
) -> MetricsServer:
    """Bound, but not started yet; ``health`` says what is wrong. Raises OperationError when the address is taken."""
    registry = operator_registry(figures, work)
    return MetricsServer(registry, address=address, port=port, probes={"/healthz": health})
