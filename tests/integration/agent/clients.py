"""Load for the pod under test."""

import json
import threading
import urllib.request

from .cluster import MODEL
from .process import Metrics


class Clients:
    """Completions of a known length, each by a thread of its own."""

    def __init__(self, address: str, *, requests: int, tokens: int) -> None:
        self._url = f"http://{address}:8000"
        self._tokens = tokens
        self._threads = [threading.Thread(target=self._complete) for _ in range(requests)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def running(self) -> float:
        """Requests that the pod works on, as it tells itself."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=5) as answer:
            return Metrics(answer.read().decode()).total("vllm:num_requests_running") or 0.0

    def _complete(self) -> None:
        body = {"model": MODEL, "prompt": "word " * 200, "max_tokens": self._tokens, "ignore_eos": True}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._url}/v1/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=60):
            pass
