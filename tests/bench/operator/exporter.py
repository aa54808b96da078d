"""Plays the metrics pages of all vLLM pods of a cluster at once, and the agents' energy counters.

A program of its own: Prometheus scrapes it as one target, with ``honor_labels``. Requests arrive at random (Poisson)
at the rate of each service, shared evenly by its Ready pods, and their lengths and latencies are drawn from
distributions. ``PUT /loads`` takes ``{"namespace/deployment": {"model", "rate_rps", "lengths"}}``.
"""

import argparse
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import lognorm

from dynawatt.adapters.kubernetes.client import api_client
from dynawatt.adapters.kubernetes.watch import Watcher
from dynawatt.adapters.vllm_load.buckets import TBT_BOUNDS_S, TTFT_BOUNDS_S

_LENGTHS = [float(m * 10**e) for e in range(6) for m in (1, 2, 5)]
# Family, upper ends of its buckets, and spread; the middle depends on the service.
_HISTOGRAMS = {
    "vllm:request_prompt_tokens": (_LENGTHS, 0.9),
    "vllm:request_generation_tokens": (_LENGTHS, 0.8),
    "vllm:time_to_first_token_seconds": (TTFT_BOUNDS_S, 0.5),
    "vllm:inter_token_latency_seconds": (TBT_BOUNDS_S, 0.4),
}
_TTFT_S, _TBT_S, _POD_W = 0.15, 0.03, 900.0
_PATIENCE_S = 25.0


class Pod:
    """Counters of one pod."""

    def __init__(self, namespace: str, name: str, service: str, load: dict[str, Any]) -> None:
        self.service, self.ready = service, False
        self.requests = self.joules = 0.0
        inputs, self.outputs = load["lengths"]
        self._means = [inputs, self.outputs, _TTFT_S, _TBT_S]
        self._shares = [
            _shares(bounds, mean, sigma)
            for (bounds, sigma), mean in zip(_HISTOGRAMS.values(), self._means, strict=True)
        ]
        self._counts = [np.zeros(len(shares), dtype=np.int64) for shares in self._shares]
        where = f'namespace="{namespace}",pod="{name}"'
        self._text = _template(where, f'{where},engine="0",model_name="{load["model"]}"')

    def serve(self, rng: np.random.Generator, rate_rps: float, seconds: float) -> None:
        """Go on for so long."""
        arrived = int(rng.poisson(rate_rps * seconds))
        self.requests += arrived
        self.joules += _POD_W * seconds
        for index, (shares, each) in enumerate(zip(self._shares, (1, 1, 1, self.outputs), strict=True)):
            self._counts[index] += rng.multinomial(int(arrived * each), shares)

    def page(self, rate_rps: float) -> str:
        """What Prometheus sees."""
        running = rate_rps * (_TTFT_S + self.outputs * _TBT_S)
        values: list[float] = [running, 0, min(1.0, running / 200), self.requests, self.requests * self.outputs]
        for counts, mean in zip(self._counts, self._means, strict=True):
            total = int(counts.sum())
            values += [*np.cumsum(counts).tolist(), total * mean, total]
        return self._text % (*values, self.joules)


def _shares(bounds: list[float], mean: float, sigma: float) -> np.ndarray:
    """Of each bucket, the one without end included, when the logarithm is normal."""
    below = lognorm.cdf([*bounds, np.inf], sigma, scale=mean / np.exp(sigma**2 / 2))
    return np.diff(below, prepend=0.0)


def _template(where: str, labels: str) -> str:
    gauges = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
    lines = [f"{name}{{{labels}}} %.6g" for name in gauges]
    lines.append(f'vllm:request_success_total{{{labels},finished_reason="length"}} %d')
    lines.append(f"vllm:generation_tokens_total{{{labels}}} %d")
    for name, (bounds, _) in _HISTOGRAMS.items():
        lines += [f'{name}_bucket{{{labels},le="{bound}"}} %d' for bound in bounds]
        lines += [f'{name}_bucket{{{labels},le="+Inf"}} %d', f"{name}_sum{{{labels}}} %.6f"]
        lines.append(f"{name}_count{{{labels}}} %d")
    lines.append(f"dynawatt_pod_energy_joules_total{{{where}}} %.1f")
    return "\n".join(lines) + "\n"


class Exporter:
    """All pods of the services that were told."""

    def __init__(self, kubeconfig: Path) -> None:
        self._rng = np.random.default_rng(11)
        self._lock = threading.Lock()
        self._loads: dict[str, dict[str, Any]] = {}
        self._pods: dict[str, Pod] = {}
        self._served_s = time.monotonic()
        self._watcher = Watcher(api_client(kubeconfig), "/api/v1/pods", keep=_kept).start()
        assert self._watcher.synced.wait(_PATIENCE_S), "the API server does not list pods"

    def take(self, loads: dict[str, dict[str, Any]]) -> None:
        """Other loads from now on."""
        with self._lock:
            self._advance()
            self._loads |= loads

    def page(self) -> bytes:
        """Of all Ready pods, as they are now."""
        with self._lock:
            rates_rps = self._advance()
            return "".join(pod.page(rates_rps[pod.service]) for pod in self._pods.values() if pod.ready).encode()

    def _advance(self) -> dict[str, float]:
        now_s = time.monotonic()
        seconds, self._served_s = now_s - self._served_s, now_s
        found = self._watcher.snapshot()
        for uid, kept in found.items():
            service = f"{kept['namespace']}/{kept['app']}"
            if uid not in self._pods and service in self._loads:
                self._pods[uid] = Pod(kept["namespace"], kept["name"], service, self._loads[service])
        self._pods = {uid: pod for uid, pod in self._pods.items() if uid in found}
        ready: dict[str, int] = dict.fromkeys(self._loads, 0)
        for uid, pod in self._pods.items():
            pod.ready = found[uid]["ready"]
            ready[pod.service] += pod.ready
        rates_rps = {name: self._loads[name]["rate_rps"] / max(1, count) for name, count in ready.items()}
        for pod in self._pods.values():
            if pod.ready:
                pod.serve(self._rng, rates_rps[pod.service], seconds)
        return rates_rps


def _kept(pod: dict[str, Any]) -> dict[str, Any]:
    metadata, conditions = pod["metadata"], pod.get("status", {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return {
        "metadata": {name: metadata[name] for name in ("uid", "resourceVersion")},
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "app": (metadata.get("labels") or {}).get("app", ""),
        "ready": ready and "deletionTimestamp" not in metadata,
    }


def _handler(exporter: Exporter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"" if self.path == "/healthz" else exporter.page())

        def do_PUT(self) -> None:
            exporter.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer(b"")

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    exporter = Exporter(options.kubeconfig)
    ThreadingHTTPServer(("127.0.0.1", options.port), _handler(exporter)).serve_forever()


if __name__ == "__main__":
    main()
