"""The agent's HTTP face: ``/metrics`` from the last cycle's view, ``/healthz`` and ``/readyz`` from its age.

A scrape reads no GPU: it renders what the last cycle saw, so that a slow driver
slows no scrape and energy, power and clock belong to the same moment. Reading
threads only ever see whole views. Values that could not be read are left out.

Metrics about pods carry their namespace and name as ``namespace`` and ``pod``:
scrape the agent with ``honor_labels: true``, or Prometheus puts the agent's own there.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dynawatt.agent.efficiency import TokenEnergy
from dynawatt.agent.families.agent import agent_families
from dynawatt.agent.families.gpus import gpu_families
from dynawatt.agent.families.making import Families
from dynawatt.agent.families.pods import pod_families
from dynawatt.agent.view import NodeView
from dynawatt.errors import OperationError
from dynawatt.ports import PodKey

_PLAIN_TEXT: Final = "text/plain; charset=utf-8"


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


class ExportServer:
    """Serves one collector and the probes until stopped.

    ``/healthz`` fails while cycles are missed, ``/readyz`` also before the first has ended.
    """

    def __init__(self, *, collector: NodeCollector, unhealthy: Callable[[], str], address: str, port: int) -> None:
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
                    self._probe(unhealthy())
                elif path == "/readyz":
                    self._probe(unhealthy() or ("" if collector.view else "no cycle has ended yet"))
                else:
                    self._answer(404, b"there are /metrics, /healthz and /readyz", _PLAIN_TEXT)

            def _probe(self, problem: str) -> None:
                self._answer(503 if problem else 200, (problem or "ok").encode(), _PLAIN_TEXT)

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
