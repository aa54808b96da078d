"""Where requests can go, and which place gets the next one."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from dynawatt.errors import InvalidInputError


@dataclass(slots=True, eq=False)
class Endpoint:
    """One vLLM server."""

    name: str
    """The pod, or the URL."""
    base_url: str
    """Without the path of the API, e.g. ``http://10.0.0.7:8000``."""
    outstanding: int = 0
    """Our own requests to it that have not ended."""


class Endpoints(Protocol):
    """The servers as of now."""

    def current(self) -> Sequence[Endpoint]:
        """Servers that take requests; the same object each time for the same server."""
        ...


class StaticEndpoints:
    """Servers given by their URLs. Raises InvalidInputError when one cannot be used."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._endpoints = tuple(Endpoint(url, _base_url(url)) for url in urls)
        if len({endpoint.base_url for endpoint in self._endpoints}) < len(self._endpoints):
            raise InvalidInputError(f"--url {' '.join(urls)}: names a server twice; give each once")

    def current(self) -> Sequence[Endpoint]:
        """All of them."""
        return self._endpoints


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        usable = usable and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInputError(f"--url {url}: must be like http://host:8000")
    return url.rstrip("/").removesuffix("/v1")


def least_outstanding(endpoints: Sequence[Endpoint], rng: random.Random) -> Endpoint | None:
    """The server with the fewest requests of ours, ties broken at random; None when there is none."""
    fewest = min((endpoint.outstanding for endpoint in endpoints), default=0)
    candidates = [endpoint for endpoint in endpoints if endpoint.outstanding == fewest]
    return rng.choice(candidates) if candidates else None
