"""The http_* families that vLLM's API server exposes, as an aiohttp middleware.

Handlers appear once they were called; like vLLM, probes and scrapes are not
counted, and body sizes are those of Content-Length headers.
"""

import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from dynawatt.sandbox.nodesim.exposition import Distribution, Family, Value

_HELP: Final = "As in vLLM 0.32, of a simulated replica."
_NOT_COUNTED: Final = frozenset({"/metrics", "/health", "/load", "/version"})
_FINE_S: Final = (
    .01, .025, .05, .075, .1, .25, .5, .75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60,
)  # fmt: skip
_COARSE_S: Final = (0.1, 0.5, 1.0)


class HttpMetrics:
    """Requests of one server by handler, method and status class."""

    def __init__(self, created_unix_s: float) -> None:
        self.created_unix_s: Final = created_unix_s
        self._requests: dict[tuple[str, str, str], Value] = {}
        self._request_bytes: dict[str, Distribution] = {}
        self._response_bytes: dict[str, Distribution] = {}
        self._duration_fine_s = Distribution({}, _FINE_S)
        self._duration_s: dict[tuple[str, str], Distribution] = {}

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count and time one request."""
        if request.path in _NOT_COUNTED:
            return await handler(request)
        begin_s = time.perf_counter()
        response = await handler(request)
        known = request.match_info.http_exception is None
        self._count(request, response, request.path if known else "none", time.perf_counter() - begin_s)
        return response

    def _count(self, request: web.Request, response: web.StreamResponse, path: str, duration_s: float) -> None:
        status = f"{response.status // 100}xx"
        by_status = (path, request.method, status)
        labels = {"handler": path, "method": request.method, "status": status}
        self._requests.setdefault(by_status, Value(labels)).value += 1
        handler = {"handler": path}
        self._request_bytes.setdefault(path, Distribution(handler)).observe(request.content_length or 0)
        self._response_bytes.setdefault(path, Distribution(handler)).observe(response.content_length or 0)
        self._duration_fine_s.observe(duration_s)
        by_method = Distribution({"handler": path, "method": request.method}, _COARSE_S)
        self._duration_s.setdefault((path, request.method), by_method).observe(duration_s)

    def render(self) -> str:
        """The Prometheus text of all families."""
        families = (
            Family("http_requests", "counter", [*self._requests.values()], self.created_unix_s, _HELP),
            Family("http_request_size_bytes", "summary", [*self._request_bytes.values()], self.created_unix_s, _HELP),
            Family("http_response_size_bytes", "summary", [*self._response_bytes.values()], self.created_unix_s, _HELP),
            Family(
                "http_request_duration_highr_seconds",
                "histogram",
                [self._duration_fine_s],
                self.created_unix_s,
                _HELP,
            ),
            Family(
                "http_request_duration_seconds", "histogram", [*self._duration_s.values()], self.created_unix_s, _HELP
            ),
        )
        return "".join(family.render() for family in families)
