"""The agent's HTTP face: ``/metrics`` from the last cycle's view, ``/healthz`` from its age.

A scrape reads no GPU: it renders what the last cycle saw, so that a slow driver
slows no scrape and energy, power and clock belong to the same moment. Reading
threads only ever see whole views. Values that could not be read are left out.
"""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dynawatt.agent.actuating import requested_mhz
from dynawatt.agent.governing import REASONS
from dynawatt.agent.metering import NOBODY
from dynawatt.agent.view import NodeView
from dynawatt.errors import OperationError
from dynawatt.quantities import HZ_PER_MHZ

_LABELS: Final = ("node", "gpu_uuid", "namespace", "pod")
_PLAIN_TEXT: Final = "text/plain; charset=utf-8"


class NodeCollector(Collector):
    """Renders the view it was last given as Prometheus metrics."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.view: NodeView | None = None

    def collect(self) -> Iterator[Metric]:
        """All families; nothing before the first cycle has ended."""
        view = self.view
        if view is None:
            return
        energy = CounterMetricFamily(
            "dynawatt_gpu_energy_joules",
            "Energy of a GPU while a pod held it; no pod when nobody or several.",
            None,
            _LABELS,
        )
        for key, energy_j in view.energy_j.items():
            energy.add_metric((self._node, key.uuid, *key.pod), energy_j)
        yield energy
        yield from self._gpu_gauges(view)
        yield from self._governors(view)
        failures = CounterMetricFamily(
            "dynawatt_clock_set_failures", "Clock commands that the driver refused.", None, ("node", "reason")
        )
        for reason, count in view.command_failures.items():
            failures.add_metric((self._node, reason), count)
        yield failures
        for name, text, count in (
            ("cycle_failures", "Cycles that ended in an error.", view.cycle_failures),
            ("scrape_failures", "Times that the metrics of a serving pod could not be read.", view.scrape_failures),
        ):
            counter = CounterMetricFamily(f"dynawatt_agent_{name}", text, None, ("node",))
            counter.add_metric((self._node,), count)
            yield counter
        for name, text, value in (
            ("cycle_seconds", "How long the last cycle took.", view.cycle_s),
            ("lease_age_seconds", "Since the operator's lease was last seen renewed.", view.lease.age_s),
            ("last_cycle_timestamp_seconds", "When the last cycle ended.", view.finished_unix_s),
        ):
            gauge = GaugeMetricFamily(f"dynawatt_agent_{name}", text, None, ("node",))
            gauge.add_metric((self._node,), value)
            yield gauge

    def _governors(self, view: NodeView) -> Iterator[Metric]:
        clock = GaugeMetricFamily(
            "dynawatt_governor_clock_hertz",
            "SM clock chosen for a pod, before it is fitted to what its GPUs support.",
            None,
            ("node", "namespace", "pod"),
        )
        reason = GaugeMetricFamily(
            "dynawatt_governor_reason",
            "1 for why it was chosen: starting and blind (load unknown) and burning (error budget) are the ceiling.",
            None,
            ("node", "namespace", "pod", "reason"),
        )
        for pod, governed in view.governed.items():
            clock.add_metric((self._node, *pod), governed.clock_mhz * HZ_PER_MHZ)
            for name in REASONS:
                reason.add_metric((self._node, *pod, name), name == governed.reason)
        yield from (clock, reason)

    def _gpu_gauges(self, view: NodeView) -> Iterator[Metric]:
        power = GaugeMetricFamily("dynawatt_gpu_power_watts", "Board power now.", None, _LABELS)
        clock = GaugeMetricFamily("dynawatt_gpu_sm_clock_hertz", "SM clock now.", None, _LABELS)
        requested = GaugeMetricFamily(
            "dynawatt_gpu_requested_clock_hertz",
            "SM clock that the governor chose; absent at default clocks.",
            None,
            _LABELS,
        )
        for gpu in view.gpus:
            labels = (self._node, gpu.uuid, *(gpu.pods[0] if len(gpu.pods) == 1 else NOBODY))
            wanted_mhz = requested_mhz(gpu.commanded)
            if gpu.power_w is not None:
                power.add_metric(labels, gpu.power_w)
            if gpu.clock_mhz is not None:
                clock.add_metric(labels, gpu.clock_mhz * HZ_PER_MHZ)
            if wanted_mhz is not None:
                requested.add_metric(labels, wanted_mhz * HZ_PER_MHZ)
        yield from (power, clock, requested)


class ExportServer:
    """Serves one collector and one health check until stopped."""

    def __init__(self, *, collector: Collector, unhealthy: Callable[[], str], address: str, port: int) -> None:
        """Bind the address. ``unhealthy`` says what is wrong, or nothing. Raises OperationError when it is taken."""
        registry = CollectorRegistry()
        registry.register(collector)

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, encode(registry), content_type)
                elif path == "/healthz":
                    problem = unhealthy()
                    self._answer(503 if problem else 200, (problem or "ok").encode(), _PLAIN_TEXT)
                else:
                    self._answer(404, b"there are /metrics and /healthz", _PLAIN_TEXT)

            def _answer(self, status: int, body: bytes, content_type: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Scrapes are no news."""

        try:
            self._server = ThreadingHTTPServer((address, port), Handler)
        except OSError as error:
            raise OperationError(
                f"cannot serve metrics on {address}:{port}: {error.strerror or error}; give another --metrics-port"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="export", daemon=True)

    @property
    def port(self) -> int:
        """The port in use: the one the system chose when 0 was asked for."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()
