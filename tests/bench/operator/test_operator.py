"""The real operator with hundreds of services on a real control plane: how much it takes, and how soon it acts.

Real are the API server with its authorization and admission policies, the controllers and the scheduler, Prometheus
and the operator's process with its own options. KWOK plays the nodes, and one program the metrics pages of all pods.
"""

import json
import os
import signal
import time
import urllib.request
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from dynawatt.adapters.kubernetes.client import api_client, request_json

from .cluster import SCRAPE_S, ScaleCluster
from .fleet import fleet, nodes_for
from .measuring import Ages, Page, Processes, plans_between, seen_by_prometheus

pytestmark = pytest.mark.bench

PATIENCE_S = 900.0
RATE_WINDOW_S = 60
PLAN_INTERVAL_S, OBSERVE_INTERVAL_S = 300, 10
SETTLE_S, STEADY_S = 45.0, 330.0
STEP = 4.0
SURFACES = Path(__file__).parents[3] / "build" / "bench-operator" / "surfaces"
OPTIONS = (
    f"--plan-interval-s={PLAN_INTERVAL_S}",
    f"--observe-interval-s={OBSERVE_INTERVAL_S}",
    f"--rate-window-s={RATE_WINDOW_S}",
    f"--surface-dir={SURFACES}",
)


class Bench:
    """One size of cluster and its operator."""

    def __init__(self, count: int, samples: Path | None = None) -> None:
        """``samples`` is where to write which stacks the operator was seen in."""
        self.samples = samples
        self.services = fleet(count)
        self.cluster = ScaleCluster(f"bench-operator-{os.getpid()}-{count}", nodes_for(count))
        self.figures: dict[str, object] = {"services": count, "nodes": self.cluster.nodes}

    def up(self) -> None:
        """Everything but the operator; returns when all pods are Ready and were scraped for a rate window."""
        began_s = time.monotonic()
        self.cluster.up()
        self.api = api_client(self.cluster.state.admin_kubeconfig)
        for number in range(10):
            self._post("/api/v1/namespaces", {"metadata": {"name": f"team-{number}"}})
        exporter = self.cluster.start_exporter()
        self.exporter_url = exporter.url
        self.tell({f"{one.namespace}/{one.name}": one.load() for one in self.services})
        for one in sorted(self.services, key=lambda one: -one.of.tensor_parallel):
            self._post(f"/apis/apps/v1/namespaces/{one.namespace}/deployments", one.deployment())
            self._post(f"/apis/dynawatt.dev/v1alpha1/namespaces/{one.namespace}/llmservices", one.llmservice())
        wanted = sum(one.of.replicas for one in self.services)
        self._until(lambda: self.ready_pods() >= wanted, "all pods are Ready", every_s=2.0)
        self.prometheus_url = self.cluster.start_prometheus([exporter.url.removeprefix("http://")])
        gpus = sum(one.of.replicas * one.of.tensor_parallel for one in self.services)
        self.figures |= {
            "pods": wanted,
            "gpus": 8 * self.cluster.nodes,
            "gpus_held": gpus,
            "cluster_up_s": round(time.monotonic() - began_s, 1),
        }
        time.sleep(RATE_WINDOW_S + 3 * SCRAPE_S)

    def start(self) -> tuple[float, dict[str, float]]:
        """Start the operator; seconds until all services have a decision, and how many replicas each is to have."""
        began_s = time.monotonic()
        self.operator = self.cluster.start_operator(self.prometheus_url, *OPTIONS, samples=self.samples)
        self.processes = Processes(self.operator.pid)
        desired: dict[str, float] = {}
        took_s: list[float] = []

        def all_decided() -> bool:
            desired.update(Page(self.operator.url).by_service("dynawatt_desired_replicas"))
            took_s.extend([time.monotonic() - began_s] * (len(desired) - len(took_s)))
            return len(desired) == len(self.services)

        self._until(all_decided, "all services have a decision", every_s=1.0)
        self.first_decisions_s = took_s
        return took_s[-1], desired

    def tell(self, loads: dict[str, dict[str, object]]) -> None:
        """Other loads."""
        body = json.dumps(loads).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{self.exporter_url}/loads", body, method="PUT")) as answer:
            answer.read()

    def ready_pods(self) -> int:
        """Of all Deployments."""
        found = request_json(self.api, "GET", "/apis/apps/v1/deployments")["items"]
        return sum(one.get("status", {}).get("readyReplicas", 0) for one in found)

    def pods_of(self, service) -> list[str]:
        """Names."""
        path = f"/api/v1/namespaces/{service.namespace}/pods"
        found = request_json(self.api, "GET", path, query={"labelSelector": f"app={service.name}"})["items"]
        return [pod["metadata"]["name"] for pod in found]

    def _post(self, path: str, body: object) -> None:
        request_json(self.api, "POST", path, body=body)

    def _until(self, is_true, what: str, *, every_s: float = 0.5) -> None:
        until_s = time.monotonic() + PATIENCE_S
        while not is_true():
            assert time.monotonic() < until_s, f"{what}: not so after {PATIENCE_S:.0f} s"
            time.sleep(every_s)


def surfaces_kept() -> list[Path]:
    return list(SURFACES.glob("*")) if SURFACES.is_dir() else []


def warm(bench: Bench) -> dict[str, float]:
    """Let a first operator find its surfaces and settle the services."""
    before, began_s = len(surfaces_kept()), time.time()
    took_s, _ = bench.start()
    quiet_s = settled(bench)
    kept = surfaces_kept()
    bench.figures["warming"] = {
        "surfaces_before": before,
        "surfaces": len(kept),
        "first_decisions_s": round(took_s, 1),
        "settled_s": round(quiet_s, 1),
        "last_surface_s": round(max((path.stat().st_ctime for path in kept), default=began_s) - began_s, 1),
        "writes": counted(bench.cluster.writes(began_s, time.time())),
        "memory_peak_mb": bench.processes.memory_mb("VmHWM"),
    }
    return Page(bench.operator.url).by_service("dynawatt_desired_replicas")


def counted(writes) -> dict[str, int]:
    return dict(Counter(f"{one['verb']} {one['resource']} {one['code']}" for one in writes))


def settled(bench: Bench) -> float:
    """Seconds until the operator wrote nothing but its Lease for a while."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < 300:
        time.sleep(5)
        now_s = time.time()
        if not [one for one in bench.cluster.writes(now_s - 30, now_s) if one["resource"] != "leases"]:
            break
    return time.monotonic() - began_s


def restart(bench: Bench, before: dict[str, float]) -> None:
    """After a crash, which leaves the Lease behind."""
    bench.cluster.stop_operator(signal.SIGKILL)
    took_s, desired = bench.start()
    same = sum(desired[name] == before.get(name) for name in desired)
    bench.figures["restart"] = {
        "all_decided_s": round(took_s, 1),
        "first_decided_s": round(bench.first_decisions_s[0], 1),
        "median_decided_s": round(median(bench.first_decisions_s), 1),
        "same_decision": same,
        "plan": plans_between(None, Page(bench.operator.url)),
        "memory_mb": bench.processes.memory_mb(),
        "cpu_s": bench.processes.cpu_s(),
    }


def steady(bench: Bench) -> None:
    """Nothing changes but by chance; one full planning round falls into this time."""
    time.sleep(SETTLE_S)
    ages, before = Ages(bench.operator.url), Page(bench.operator.url)
    cpu_s, began_s, versions = bench.processes.cpu_s(), time.time(), statuses(bench)
    after = ages.watch(STEADY_S)
    lasted_s = time.time() - began_s
    spent_s = {name: value - cpu_s[name] for name, value in bench.processes.cpu_s().items()}
    writes = bench.cluster.writes(began_s, began_s + lasted_s)
    told = sum(after.by_label("dynawatt_api_writes_total", "resource").values()) - sum(
        before.by_label("dynawatt_api_writes_total", "resource").values()
    )
    decided = {
        name: after.by_service("dynawatt_desired_replicas").get(name) != value
        for name, value in before.by_service("dynawatt_desired_replicas").items()
    }
    now = statuses(bench)
    changed = [name for name, status in versions.items() if now.get(name) != status]
    touched = {one["name"] for one in writes if one["resource"].startswith("llmservices")}
    bench.figures["steady"] = {
        "seconds": round(lasted_s, 1),
        "cpu_s_per_minute": {name: round(60 * value / lasted_s, 2) for name, value in spent_s.items()},
        "memory_mb": {name: round(value) for name, value in bench.processes.memory_mb().items()},
        "memory_peak_mb": {name: round(value) for name, value in bench.processes.memory_mb("VmHWM").items()},
        "writes_per_s": round(len(writes) / lasted_s, 3),
        "writes": counted(writes),
        "writes_per_s_by_own_metric": round(told / lasted_s, 3),
        "services_written": len(touched),
        "services_whose_status_changed": len(changed),
        "services_redecided": sum(decided.values()),
        "plan": plans_between(before, after),
        "oldest_tick_s": {"max": round(max(ages.oldest_s), 1), "median": round(median(ages.oldest_s), 1)},
        "slowest_probe_s": round(max(ages.probes_s), 3),
        "held": after.by_label("dynawatt_held_cycles_total", "reason"),
    }


def statuses(bench: Bench) -> dict[str, object]:
    found = request_json(bench.api, "GET", "/apis/dynawatt.dev/v1alpha1/llmservices")["items"]
    return {f"{one['metadata']['namespace']}/{one['metadata']['name']}": one.get("status") for one in found}


def load_step(bench: Bench) -> None:
    """One service gets several times its load."""
    desired = Page(bench.operator.url).by_service("dynawatt_desired_replicas")
    service = next(one for one in bench.services if one.knobs == ["Clock", "Replicas"] and one.of.tensor_parallel == 1)
    key, pods = f"{service.namespace}/{service.name}", bench.pods_of(service)
    began_s = time.time()
    bench.tell({key: service.load() | {"rate_rps": STEP * service.rate_rps}})
    seen_s = scaled_s = None
    while scaled_s is None or seen_s is None:
        assert time.time() - began_s < 180, f"{key} was not scaled: seen {seen_s}"
        page = Page(bench.operator.url)
        ready_for = page.by_service("dynawatt_forecast_requests_per_second", level="high").get(key, 0.0)
        if seen_s is None:
            load = seen_by_prometheus(bench.prometheus_url, service.namespace, service.name, pods, RATE_WINDOW_S)
            if load.burst_rps > 1.05 * ready_for:
                seen_s = time.time()
        scaled = [
            one["at_s"]
            for one in bench.cluster.writes(began_s, time.time())
            if one["resource"] == "deployments/scale" and one["name"] == key and one["code"] == 200
        ]
        scaled_s = min(scaled, default=None)
        if scaled and seen_s is None:
            seen_s = scaled_s  # the operator was quicker than this loop
        time.sleep(0.2)
    bench.figures["load_step"] = {
        "from_rps": service.rate_rps,
        "times": STEP,
        "replicas_before": desired.get(key),
        "replicas_after": Page(bench.operator.url).by_service("dynawatt_desired_replicas").get(key),
        "step_to_visible_s": round(seen_s - began_s, 1),
        "visible_to_scale_s": round(scaled_s - seen_s, 1),
    }


def test_operator(publish, request, count):
    SURFACES.mkdir(parents=True, exist_ok=True)
    samples = SURFACES.with_name("samples.txt") if request.config.getoption("--samples", default=False) else None
    bench = Bench(count, samples)
    try:
        bench.up()
        desired = warm(bench)
        restart(bench, desired)
        steady(bench)
        load_step(bench)
    finally:
        log = bench.cluster.state.logs / "operator.log"
        if log.exists():
            SURFACES.with_name("operator.log").write_text(log.read_text())
        bench.cluster.down()
    again, calm, step = (bench.figures[name] for name in ("restart", "steady", "load_step"))
    publish(
        "operator" if count == 300 else f"operator_{count}",
        f"{count} services, {bench.figures['pods']} pods: all decided {again['all_decided_s']} s after a crash, a "
        f"round takes {calm['plan']['all']['mean_s']} s, {calm['cpu_s_per_minute']['operator']} CPU s a minute, "
        f"{sum(calm['memory_mb'].values())} MB, {calm['writes_per_s']} writes/s, {step['visible_to_scale_s']} s from "
        "a visible load step to the scale call",
        load_average=os.getloadavg(),
        **bench.figures,
    )
