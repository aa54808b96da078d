"""The agent's HTTP face: ``/metrics`` from the last cycle's view, ``/healthz`` and ``/readyz`` from its age.

A scrape reads no GPU: it renders what the last cycle saw, so that a slow driver
slows no scrape and energy, power and clock belong to the same moment. Reading
threads only ever see whole views. Values that could not be read are left out.

Metrics about pods carry their namespace and name as ``namespace`` and ``pod``:
scrape the agent with ``honor_labels: true``, or Prometheus puts the agent's own there.
"""

import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from dynawatt.adapters.metrics_server import MetricsServer
from dynawatt.agent.efficiency import TokenEnergy
from dynawatt.agent.families.agent import agent_families
from dynawatt.agent.families.gpus import gpu_families
from dynawatt.agent.families.making import Families
from dynawatt.agent.families.pods import pod_families
from dynawatt.agent.view import NodeView
from dynawatt.ports import PodKey


class NodeCollector(Collector):
    """Renders the view it was last given as Prometheus metrics. ``clock_s`` is monotonic time in seconds."""

    def __init__(self, node: str, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._make = Families(node)
        self._clock_s = clock_s
        self._token_energy = TokenEnergy()
        self._shown: tuple[NodeView, Mapping[PodKey, float]] | None = None

    @property
    def view(self) -> NodeView | None:
        """What is shown; None before the first cycle has ended. Set by one thread, once a cycle."""
        return self._shown and self._shown[0]

    @view.setter
    def view(self, view: NodeView) -> None:
        self._shown = view, self._token_energy.observe(view.energy_j, view.serving, self._clock_s())

    def collect(self) -> Iterator[Metric]:
        """All families; nothing before the first cycle has ended."""
        if self._shown is None:
            return
        view, token_energy_j = self._shown
        yield from gpu_families(self._make, view)
        yield from pod_families(self._make, view, token_energy_j)
        yield from agent_families(self._make, view)


class ExportServer(MetricsServer):
    """Serves one collector and the probes until stopped.

    ``/healthz`` fails while cycles are missed, ``/readyz`` also before the first has ended.
    """

    def __init__(self, *, collector: NodeCollector, unhealthy: Callable[[], str], address: str, port: int) -> None:
        """Bind the address. ``unhealthy`` says what is wrong, or nothing. Raises OperationError when it is taken."""
        registry = CollectorRegistry()
        registry.register(collector)

        def unready() -> str:
            return unhealthy() or ("" if collector.view else "no cycle has ended yet")

        probes = {"/healthz": unhealthy, "/readyz": unready}
        super().__init__(registry, address=address, port=port, probes=probes)
