"""The ``/metrics`` of a vLLM pod, served on the pod's own address, with everything that can be wrong with it."""

import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dynawatt.sandbox.nodesim.vllm_metrics import FinishedRequest, VllmMetrics

from .cluster import METRICS_PORT

_FLOOD_BYTES = 10 * 2**20
_DRIP_S = 0.2


class VllmPage:
    """One pod's server. ``metrics`` may be changed and ``misbehaviour`` set at any time."""

    def __init__(self, address: str) -> None:
        self.metrics = VllmMetrics(
            model_name="any", max_model_len=8192, max_num_seqs=256, kv_capacity_tokens=400_000, created_unix_s=0.0
        )
        self.misbehaviour = ""
        self._closing = threading.Event()
        page = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                page._answers.get(page.misbehaviour, page._answer)(self)

            def log_message(self, *args: object) -> None:
                pass

        self._answers: Mapping[str, Callable[[BaseHTTPRequestHandler], None]] = {
            "hangs": self._hang,
            "drips": self._drip,
            "floods": self._flood,
            "answers 404": lambda handler: _send(handler, b"nothing here\n", status=404),
            "is cut short": lambda handler: _send(handler, self._page(), missing=4000),
            "says NaN": lambda handler: _send(handler, self._page(num_requests_running="NaN")),
            "says -3": lambda handler: _send(handler, self._page(num_requests_running="-3")),
            "tells no load": lambda handler: _send(handler, b"# nothing but this\n"),
        }
        self._server = ThreadingHTTPServer((address, METRICS_PORT), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=f"page {address}")
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def finish(self, requests: int) -> None:
        """So many requests have been served."""
        for _ in range(requests):
            self.metrics.record_finished(FinishedRequest(200, 2, 2, 0, 0.0, 0.0, 0.01, 0.02))
            self.metrics.count("vllm:prompt_tokens", 200)

    def restart(self) -> None:
        """All counters begin at 0 again."""
        self.metrics = VllmMetrics(
            model_name="any", max_model_len=8192, max_num_seqs=256, kv_capacity_tokens=400_000, created_unix_s=1.0
        )

    def _page(self, **values: str) -> bytes:
        text = self.metrics.render()
        for name, value in values.items():
            text, count = re.subn(rf"^(vllm:{name}\{{.*\}}) .*$", rf"\1 {value}", text, flags=re.MULTILINE)
            assert count == 1
        return text.encode()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        _send(handler, self._page())

    def _hang(self, handler: BaseHTTPRequestHandler) -> None:
        self._closing.wait()

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        page = self._page()
        _send_head(handler, len(page))
        for index in range(len(page)):
            handler.wfile.write(page[index : index + 1])
            if self._closing.wait(_DRIP_S):
                return

    def _flood(self, handler: BaseHTTPRequestHandler) -> None:
        page = self._page()
        _send(handler, page * (_FLOOD_BYTES // len(page) + 1))


def _send_head(handler: BaseHTTPRequestHandler, length: int, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def _send(handler: BaseHTTPRequestHandler, body: bytes, *, status: int = 200, missing: int = 0) -> None:
    """Answer, but for the last so many bytes."""
    handler.close_connection = missing > 0
    try:
        _send_head(handler, len(body), status)
        handler.wfile.write(body[: len(body) - missing])
    except ConnectionError:  # the agent reads no further than it wants to
        handler.close_connection = True
