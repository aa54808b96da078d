"""Queries against the HTTP API of Prometheus (or anything that speaks it)."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from dynawatt.adapters.prometheus_auth import PrometheusAuth
from dynawatt.adapters.promql import shown
from dynawatt.errors import InvalidInputError
from dynawatt.ports import MetricsUnavailable, RangeSeries, Sample

_MOST_CONNECTIONS: Final = 8
"""Prometheus itself evaluates 20 queries at once, and others ask it, too."""
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


class _Answer(NamedTuple):
    """What came back."""

    status: int
    location: str | None
    body: bytes


class Prometheus:
    """A MetricsSource over HTTP; keeps its connections open."""

    def __init__(self, url: str, *, auth: PrometheusAuth | None = None, timeout_s: float = 10.0) -> None:
        """Talk to the server at ``url``, such as ``http://prometheus.monitoring:9090``.

        ``timeout_s`` bounds a query as a whole, but not the wait of many for those before them. Raises
        InvalidInputError when a file of ``auth`` cannot be used.
        """
        self._url, self._timeout_s = url.rstrip("/"), timeout_s
        self._auth = auth or PrometheusAuth()
        self._auth.request_headers()
        self._auth.trust()
        self._trusted = self._auth.trust_version()
        self._slots = asyncio.Semaphore(_MOST_CONNECTIONS)
        """So that the wait for others does not count against a query."""
        self._client: aiohttp.ClientSession | None = None
        """Opened with the first query: it belongs to the loop that is running then."""
        self._retired: list[aiohttp.ClientSession] = []
        self._closed = False

    async def query(self, promql: str) -> Sequence[Sample]:
        """Evaluate an instant query now. Raises MetricsUnavailable with the query and the cause."""
        return _vector(promql, await self._ask("/api/v1/query", {"query": promql}))

    async def query_range(self, promql: str, start_s: float, end_s: float, step_s: float) -> Sequence[RangeSeries]:
        """Evaluate a query at every step from start to end, both in Unix time. Raises MetricsUnavailable likewise."""
        form = {"query": promql, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:g}"}
        return _matrix(promql, await self._ask("/api/v1/query_range", form))

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        for client in (self._client, *self._retired):
            if client is not None:
                await client.close()

    async def _ask(self, path: str, form: Mapping[str, str]) -> Any:
        limit = {"timeout": f"{self._timeout_s:g}s", **_OUR_WISHES}
        try:
            async with self._slots, asyncio.timeout(self._timeout_s):
                try:
                    answer = await self._post(path, {**form, **limit})
                except aiohttp.ServerDisconnectedError:  # it had been idle for too long: as good as none
                    answer = await self._post(path, {**form, **limit})
            return json.loads(self._judged(answer).body)
        except InvalidInputError as error:
            raise MetricsUnavailable(str(error)) from error
        except TimeoutError as error:
            raise MetricsUnavailable(
                f"Prometheus at {self._url} did not answer within {self._timeout_s:g} s: {shown(form['query'])}"
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            cause = getattr(error.certificate_error, "verify_message", error.certificate_error)
            raise MetricsUnavailable(
                f"the certificate of {self._url} is not trusted: {cause}: give its authority with "
                "--prometheus-ca-file, and a URL with a name that the certificate has"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise MetricsUnavailable(f"Prometheus at {self._url} did not answer: {error!r}") from error
        except ValueError as error:
            raise MetricsUnavailable(
                f"{self._url} answered HTTP {answer.status} without JSON: is it a Prometheus?"
            ) from error

    async def _post(self, path: str, form: Mapping[str, str]) -> _Answer:
        # Elsewhere nobody may see the credentials, and a query that became a GET would be cut off.
        async with self._current().post(
            self._url + path, data=form, headers=self._auth.request_headers(), allow_redirects=False
        ) as response:
            return _Answer(response.status, response.headers.get("Location"), await response.read())

    def _current(self) -> aiohttp.ClientSession:
        """A client that trusts whom the file names now."""
        if self._closed:
            raise RuntimeError("this Prometheus client was closed")
        version = self._auth.trust_version()
        if self._client is None or version != self._trusted:
            connector = aiohttp.TCPConnector(limit=_MOST_CONNECTIONS, ssl=self._auth.trust())
            timeout = aiohttp.ClientTimeout(total=None)  # one for all of a query is set where it is asked
            fresh = aiohttp.ClientSession(
                connector=connector, timeout=timeout, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()
            )
            if self._client is not None:
                self._retired.append(self._client)  # a query may still be using it
            self._client, self._trusted = fresh, version
        return self._client

    def _judged(self, answer: _Answer) -> _Answer:
        if answer.status in range(300, 400) and answer.location is not None:
            scheme, host, path, *_ = urlsplit(answer.location)
            to = urlunsplit((scheme, host.rpartition("@")[2], path, "", ""))
            raise MetricsUnavailable(
                f"Prometheus at {self._url} sends elsewhere (HTTP {answer.status} to {to}), where nothing is "
                "asked: give the URL at which it answers itself"
            )
        if answer.status in _REFUSED:
            raise MetricsUnavailable(f"Prometheus at {self._url} {_REFUSED[answer.status]}")
        return answer


def open_prometheus(
    url: str, auth: PrometheusAuth | None = None, *, option: str = "--prometheus-url", timeout_s: float = 10.0
) -> Prometheus:
    """A client for what a user gave; ``option`` is where. Raises InvalidInputError."""
    try:
        parsed = urlsplit(url)
        parsed.port  # noqa: B018 - raises
    except ValueError as error:
        raise InvalidInputError(f"{option} {url}: {error}; must be a URL") from error
    if parsed.username is not None:
        raise InvalidInputError(
            f"{option}: must hold no user name or password; give --prometheus-username and --prometheus-password-file"
        )
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
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
