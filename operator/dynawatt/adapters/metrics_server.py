"""Serves a registry of Prometheus metrics, and probes, over HTTP."""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from dynawatt.errors import OperationError

_PLAIN_TEXT: Final = "text/plain; charset=utf-8"
_NO_PROBES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType({})


class MetricsServer:
    """``/metrics``, each scrape on a thread of its own, and probes, until stopped."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        address: str,
        port: int,
        probes: Mapping[str, Callable[[], str]] = _NO_PROBES,
    ) -> None:
        """Bind the address.

        Args:
            registry: To be served.
            address: Of this machine to listen on.
            port: 0 for any that is free.
            probes: By path, such as ``/healthz``: what says what is wrong, or nothing.

        Raises OperationError when the address is taken.
        """

        class Handler(BaseHTTPRequestHandler):
            timeout = 10.0

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, encode(registry), content_type)
                elif path in probes:
                    problem = probes[path]()
                    self._answer(503 if problem else 200, (problem or "ok").encode(), _PLAIN_TEXT)
                else:
                    *others, last = ("/metrics", *probes)
                    known = f"there are {', '.join(others)} and {last}" if others else f"there is {last}"
                    self._answer(404, known.encode(), _PLAIN_TEXT)

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
