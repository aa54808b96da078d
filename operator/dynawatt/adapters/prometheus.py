"""Instant queries against the HTTP API of Prometheus (or anything that speaks it)."""

from collections.abc import Sequence
from typing import Any

import httpx

from dynawatt.ports import MetricsUnavailable, Sample


class Prometheus:
    """A MetricsSource over HTTP; keeps its connections open."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Talk to the server at ``url``, such as ``http://prometheus.monitoring:9090``."""
        self._client = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=timeout_s, transport=transport)

    async def query(self, promql: str) -> Sequence[Sample]:
        """Evaluate an instant query now. Raises MetricsUnavailable with the query and the cause."""
        try:
            response = await self._client.post("/api/v1/query", data={"query": promql})
            answer = response.json()
        except httpx.HTTPError as error:
            raise MetricsUnavailable(f"Prometheus at {self._client.base_url} did not answer: {error!r}") from error
        except ValueError as error:
            raise MetricsUnavailable(
                f"{self._client.base_url} answered HTTP {response.status_code} without JSON: is it a Prometheus?"
            ) from error
        return _vector(promql, answer)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _vector(promql: str, answer: Any) -> list[Sample]:
    if not isinstance(answer, dict) or answer.get("status") != "success":
        cause = answer.get("error") if isinstance(answer, dict) else None
        raise MetricsUnavailable(f"query failed: {cause or 'unexpected answer'}: {promql}")
    try:
        return [Sample(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MetricsUnavailable(f"query gave no instant vector: {promql}") from error
