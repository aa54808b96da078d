"""Queries against the HTTP API of Prometheus (or anything that speaks it)."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from dynawatt.ports import MetricsUnavailable, RangeSeries, Sample


class Prometheus:
    """A MetricsSource over HTTP; keeps its connections open."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Talk to the server at ``url``, such as ``http://prometheus.monitoring:9090``."""
        self._client = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=timeout_s, transport=transport)

    async def query(self, promql: str) -> Sequence[Sample]:
        """Evaluate an instant query now. Raises MetricsUnavailable with the query and the cause."""
        return _vector(promql, await self._ask("/api/v1/query", {"query": promql}))

    async def query_range(self, promql: str, start_s: float, end_s: float, step_s: float) -> Sequence[RangeSeries]:
        """Evaluate a query at every step from start to end, both in Unix time. Raises MetricsUnavailable likewise."""
        form = {"query": promql, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:g}"}
        return _matrix(promql, await self._ask("/api/v1/query_range", form))

    async def _ask(self, path: str, form: Mapping[str, str]) -> Any:
        try:
            response = await self._client.post(path, data=form)
            return response.json()
        except httpx.HTTPError as error:
            raise MetricsUnavailable(f"Prometheus at {self._client.base_url} did not answer: {error!r}") from error
        except ValueError as error:
            raise MetricsUnavailable(
                f"{self._client.base_url} answered HTTP {response.status_code} without JSON: is it a Prometheus?"
            ) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _vector(promql: str, answer: Any) -> list[Sample]:
    result = _result(promql, answer)
    try:
        return [Sample(series["metric"], float(series["value"][1])) for series in result]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MetricsUnavailable(f"query gave no instant vector: {promql}") from error


def _matrix(promql: str, answer: Any) -> list[RangeSeries]:
    result = _result(promql, answer)
    try:
        return [
            RangeSeries(series["metric"], [(float(time_s), float(value)) for time_s, value in series["values"]])
            for series in result
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise MetricsUnavailable(f"query gave no range of values: {promql}") from error


def _result(promql: str, answer: Any) -> Any:
    if not isinstance(answer, dict) or answer.get("status") != "success":
        cause = answer.get("error") if isinstance(answer, dict) else None
        raise MetricsUnavailable(f"query failed: {cause or 'unexpected answer'}: {promql}")
    data = answer.get("data")
    return data.get("result") if isinstance(data, dict) else None
