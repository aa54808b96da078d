"""Queries against the HTTP API of Prometheus (or anything that speaks it)."""

import asyncio
import importlib.util
import ssl
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import httpx

from dynawatt.adapters.prometheus_auth import PrometheusAuth
from dynawatt.adapters.promql import shown
from dynawatt.errors import InvalidInputError
from dynawatt.ports import MetricsUnavailable, RangeSeries, Sample

_MOST_CONNECTIONS: Final = 8
"""Prometheus itself evaluates 20 queries at once, and others ask it, too; and httpx looks at all for every query."""
_REFUSED: Final[Mapping[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "refused the credentials (HTTP 401): check --prometheus-token-file, or "
    "--prometheus-username and --prometheus-password-file",
    HTTPStatus.FORBIDDEN: "does not let these credentials query (HTTP 403): grant them access to its API; on OpenShift "
    "bind the ClusterRole cluster-monitoring-view",
    HTTPStatus.NOT_FOUND: "has no API there (HTTP 404): check the path of its URL",
    HTTPStatus.TOO_MANY_REQUESTS: "asks for fewer queries (HTTP 429): raise its limits, or --observe-interval-s",
}
_OUR_WISHES: Final = {"partial_response": "false"}
"""Thanos would rather answer with part of the data."""

if importlib.util.find_spec("sniffio") is None:
    # httpcore looks for it several times per request, and to search all of the path in vain costs more than the rest.
    sys.modules["sniffio"] = None  # type: ignore[assignment]


class Prometheus:
    """A MetricsSource over HTTP; keeps its connections open."""

    def __init__(
        self,
        url: str,
        *,
        auth: PrometheusAuth | None = None,
        timeout_s: float = 10.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Talk to the server at ``url``, such as ``http://prometheus.monitoring:9090``.

        ``timeout_s`` bounds a query as a whole, but not the wait of many for those before them. Raises
        InvalidInputError when a file of ``auth`` cannot be used.
        """
        self._url, self._timeout_s, self._transport = url.rstrip("/"), timeout_s, transport
        self._auth = auth or PrometheusAuth()
        self._auth.request_headers()
        self._trusted = self._auth.trust_version()
        self._slots = asyncio.Semaphore(_MOST_CONNECTIONS)
        """The client's own queue costs more with every query that waits in it."""
        self._client = self._connect()
        self._retired: list[httpx.AsyncClient] = []

    async def query(self, promql: str) -> Sequence[Sample]:
        """Evaluate an instant query now. Raises MetricsUnavailable with the query and the cause."""
        return _vector(promql, await self._ask("/api/v1/query", {"query": promql}))

    async def query_range(self, promql: str, start_s: float, end_s: float, step_s: float) -> Sequence[RangeSeries]:
        """Evaluate a query at every step from start to end, both in Unix time. Raises MetricsUnavailable likewise."""
        form = {"query": promql, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:g}"}
        return _matrix(promql, await self._ask("/api/v1/query_range", form))

    async def close(self) -> None:
        """Close the connections."""
        for client in (self._client, *self._retired):
            await client.aclose()

    def _connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=self._timeout_s,
            limits=httpx.Limits(max_connections=_MOST_CONNECTIONS, max_keepalive_connections=_MOST_CONNECTIONS),
            # Elsewhere nobody may see the credentials, and a query that became a GET would be cut off.
            follow_redirects=False,
            verify=self._auth.trust(),
            transport=self._transport,
        )

    async def _ask(self, path: str, form: Mapping[str, str]) -> Any:
        limit = {"timeout": f"{self._timeout_s:g}s", **_OUR_WISHES}
        try:
            async with self._slots, asyncio.timeout(self._timeout_s):
                headers = self._auth.request_headers()
                response = await self._current().post(self._url + path, data={**form, **limit}, headers=headers)
            return self._judged(response).json()
        except InvalidInputError as error:
            raise MetricsUnavailable(str(error)) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} did not answer within {self._timeout_s:g} s: {type(error).__name__}: "
                f"{shown(form['query'])}"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise MetricsUnavailable(self._no_answer(error)) from error
        except ValueError as error:
            raise MetricsUnavailable(
                f"{self._url} answered HTTP {response.status_code} without JSON: is it a Prometheus?"
            ) from error

    def _current(self) -> httpx.AsyncClient:
        """A client that trusts whom the file names now."""
        version = self._auth.trust_version()
        if version != self._trusted:
            fresh = self._connect()
            self._retired.append(self._client)  # a query may still be using it
            self._client, self._trusted = fresh, version
        return self._client

    def _judged(self, response: httpx.Response) -> httpx.Response:
        if response.has_redirect_location:
            to = httpx.URL(response.headers["Location"]).copy_with(query=None, fragment=None, userinfo=b"")
            raise MetricsUnavailable(
                f"Prometheus at {self._url} sends elsewhere (HTTP {response.status_code} to {to}), where nothing is "
                "asked: give the URL at which it answers itself"
            )
        if response.status_code in _REFUSED:
            raise MetricsUnavailable(f"Prometheus at {self._url} {_REFUSED[response.status_code]}")
        return response

    def _no_answer(self, error: Exception) -> str:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__ or cause.__context__
        if cause is None:
            return f"Prometheus at {self._url} did not answer: {error!r}"
        return (
            f"the certificate of {self._url} is not trusted: {cause.verify_message}: give its authority with "
            "--prometheus-ca-file, and a URL with a name that the certificate has"
        )


def open_prometheus(
    url: str, auth: PrometheusAuth | None = None, *, option: str = "--prometheus-url", timeout_s: float = 10.0
) -> Prometheus:
    """A client for what a user gave; ``option`` is where. Raises InvalidInputError."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidInputError(f"{option} {url}: {error}; must be a URL") from error
    if parsed.userinfo:
        raise InvalidInputError(
            f"{option}: must hold no user name or password; give --prometheus-username and --prometheus-password-file"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInputError(f"{option} {url}: must start with http:// or https:// and name a host")
    if parsed.query or parsed.fragment:
        raise InvalidInputError(f"{option} {url}: must end with the path, without ? and #")
    return Prometheus(url, auth=auth, timeout_s=timeout_s)


def _vector(promql: str, answer: Any) -> list[Sample]:
    result = _result(promql, answer)
    try:
        return [Sample(series["metric"], float(series["value"][1])) for series in result]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MetricsUnavailable(f"query gave no instant vector: {shown(promql)}") from error


def _matrix(promql: str, answer: Any) -> list[RangeSeries]:
    result = _result(promql, answer)
    try:
        return [
            RangeSeries(series["metric"], [(float(time_s), float(value)) for time_s, value in series["values"]])
            for series in result
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise MetricsUnavailable(f"query gave no range of values: {shown(promql)}") from error


def _result(promql: str, answer: Any) -> Any:
    if not isinstance(answer, dict) or answer.get("status") != "success":
        cause = answer.get("error") if isinstance(answer, dict) else None
        raise MetricsUnavailable(f"query failed: {cause or 'unexpected answer'}: {shown(promql)}")
    data = answer.get("data")
    return data.get("result") if isinstance(data, dict) else None
