import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dynawatt.agent.enforcing import ClockRange
from dynawatt.agent.exporting import ExportServer, NodeCollector
from dynawatt.agent.governing import Governed
from dynawatt.agent.lease import LeaseState
from dynawatt.agent.metering import GONE, NOBODY, EnergyKey, EnergyMeter
from dynawatt.agent.refusal import Refusal
from dynawatt.agent.view import ClockCommand, NodeView
from dynawatt.api.conditions import Reason
from dynawatt.errors import OperationError
from dynawatt.ports import ClockMethod, EnergySource, GpuHealth
from dynawatt.sandbox.build import ensure_built

from .views import HEALTH, READING, A, B, gpu_view, node_view, pod_serving

LABELS = (
    *("gpu_uuid", "namespace", "pod", "llmservice"),
    *("product", "clock_method", "energy_source", "command", "kind", "xid", "reason"),
)


class Exported:
    """What a collector shows; ``now_s`` is the time of the next view."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.collector = NodeCollector("gpu-node-0", clock_s=lambda: self.now_s)
        self._registry = CollectorRegistry()
        self._registry.register(self.collector)

    def text(self, view: NodeView) -> str:
        self.collector.view = view
        return generate_latest(self._registry).decode()

    def show(self, view: NodeView) -> dict[tuple[str, ...], float]:
        """Values by metric name and the values of its labels other than the node, in the order of LABELS."""
        found = {}
        for family in text_string_to_metric_families(self.text(view)):
            for sample in family.samples:
                assert sample.labels.pop("node") == "gpu-node-0"
                labels = sorted(sample.labels, key=LABELS.index)
                found[sample.name, *(sample.labels[label] for label in labels)] = sample.value
        return found


@pytest.fixture
def exported() -> Exported:
    return Exported()


class Served:
    """A server on a free port; ``problem`` is what is unhealthy."""

    def __init__(self) -> None:
        self.problem = ""
        self.collector = NodeCollector("gpu-node-0")
        self.server = ExportServer(
            collector=self.collector, unhealthy=lambda: self.problem, address="127.0.0.1", port=0
        )

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}{path}", timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    served.server.start()
    yield served
    served.server.stop()


def named(found: dict[tuple[str, ...], float], name: str) -> dict[tuple[str, ...], float]:
    return {key[1:]: value for key, value in found.items() if key[0] == name}


def test_what_gpus_do(exported: Exported) -> None:
    held = gpu_view("GPU-0", pods=(A,), commanded=ClockRange(345, 1200), reading=READING._replace(clock_mhz=1200.0))
    found = exported.show(node_view(held, gpu_view("GPU-1"), gpu_view("GPU-2", pods=(A, B))))
    assert named(found, "dynawatt_gpu_power_watts") == {
        ("GPU-0", "prod", "a"): 100.0,
        ("GPU-1", "", ""): 100.0,
        ("GPU-2", "", ""): 100.0,
    }
    assert found["dynawatt_gpu_sm_clock_hertz", "GPU-0", "prod", "a"] == 1.2e9
    assert found["dynawatt_gpu_sm_clock_hertz", "GPU-1", "", ""] == 1.98e9
    assert named(found, "dynawatt_gpu_requested_clock_hertz") == {("GPU-0", "prod", "a"): 1.2e9}
    assert found["dynawatt_gpu_temperature_celsius", "GPU-0", "prod", "a"] == 41.0


def test_a_node_is_the_sum_of_its_pods_and_idle(exported: Exported) -> None:
    meter = EnergyMeter()
    for now_s, holder in enumerate((NOBODY, A, A, B, NOBODY, A)):
        for index in range(2):
            counter_j = 1e6 + now_s * (100.7 + index)
            meter.observe(uuid=f"GPU-{index}", counter_j=counter_j, holder=holder, now_s=float(now_s))
    found = exported.show(node_view(energy_j=meter.totals_j(5.0)))
    series = named(found, "dynawatt_gpu_energy_joules_total")
    assert len(series) == 2 * 3
    assert found["dynawatt_node_energy_joules_total",] == sum(series.values())
    assert found["dynawatt_node_energy_joules_total",] == pytest.approx(5 * (100.7 + 101.7), abs=0.01)
    pods = named(found, "dynawatt_pod_energy_joules_total")
    idle = sum(value for labels, value in series.items() if labels[1:] == NOBODY)
    assert sum(pods.values()) + idle == found["dynawatt_node_energy_joules_total",]
    assert pods["prod", "a", ""] == pytest.approx(2 * (100.7 + 101.7), abs=0.01)


def test_what_gone_pods_used_stays_in_the_sum_of_the_node_only(exported: Exported) -> None:
    energy_j = {EnergyKey("GPU-0", A): 1.0, EnergyKey("GPU-0", GONE): 2.0, EnergyKey("GPU-0", NOBODY): 4.0}
    found = exported.show(node_view(energy_j=energy_j))
    assert found["dynawatt_node_energy_joules_total",] == 7.0
    assert named(found, "dynawatt_gpu_energy_joules_total") == {("GPU-0", "prod", "a"): 1.0, ("GPU-0", "", ""): 4.0}
    assert named(found, "dynawatt_pod_energy_joules_total") == {("prod", "a", ""): 1.0}


def test_what_is_not_known_is_left_out(exported: Exported) -> None:
    silent = gpu_view("GPU-0", reading=None, health=None)
    mute = gpu_view("GPU-1", reading=type(READING)(None, None, None, None, None), health=GpuHealth())
    lease = LeaseState(fresh=False, age_s=float("inf"), reason="no renewal of the operator's lease seen yet")
    served = pod_serving(prompt_tokens=None, generation_tokens=None, requests=None)
    names = {key[0] for key in exported.show(node_view(silent, mute, lease=lease, serving={A: served}))}
    assert {name for name in names if name.startswith(("dynawatt_gpu", "dynawatt_node", "dynawatt_pod"))} == {
        "dynawatt_gpu_healthy",
        "dynawatt_gpu_info",
        "dynawatt_gpu_mig_enabled",
    }
    assert "dynawatt_agent_lease_age_seconds" not in names


def test_throttling(exported: Exported) -> None:
    reading = READING._replace(throttling=frozenset({"sw_power_cap", "from a newer driver", "and another"}))
    found = named(exported.show(node_view(gpu_view(reading=reading, pods=(A,)))), "dynawatt_gpu_throttled")
    assert {labels[3] for labels, value in found.items() if value} == {"sw_power_cap", "other"}
    assert {"hw_thermal_slowdown", "hw_slowdown"} <= {labels[3] for labels, value in found.items() if not value}
    assert all(labels[:3] == ("GPU-0", "prod", "a") for labels in found)
    calm = named(exported.show(node_view()), "dynawatt_gpu_throttled")
    assert len(calm) == len(found)
    assert not any(calm.values())


def test_kinds_of_gpus(exported: Exported) -> None:
    shared = Refusal(Reason.GPU_SHARED, "2 pods hold it")
    old = gpu_view(
        "GPU-1",
        product="Tesla V100",
        clock_method=ClockMethod.APPLICATIONS_CLOCKS,
        energy_source=EnergySource.INTEGRATED,
        energy_only=shared,
    )
    found = exported.show(node_view(gpu_view("GPU-0"), old))
    assert named(found, "dynawatt_gpu_info") == {
        ("GPU-0", "NVIDIA-H100-80GB-HBM3", "LockedClocks", "counter"): 1.0,
        ("GPU-1", "Tesla V100", "ApplicationsClocks", "integrated"): 1.0,
    }
    assert named(found, "dynawatt_gpu_energy_only") == {("GPU-1", "GPUShared"): 1.0}


def test_health(exported: Exported) -> None:
    worn = HEALTH._replace(
        mig=True,
        persistence=False,
        ecc_corrected=12,
        ecc_uncorrected=1,
        rows_remapped=3,
        row_remap_pending=True,
        row_remap_failed=True,
        xids={79: 1, 31: 5},
    )
    found = exported.show(node_view(gpu_view("GPU-0"), gpu_view("GPU-1", health=worn), gpu_view("GPU-2", health=None)))
    assert named(found, "dynawatt_gpu_healthy") == {("GPU-0",): 1.0, ("GPU-1",): 0.0}
    assert named(found, "dynawatt_gpu_ecc_errors_total") == {
        ("GPU-0", "corrected"): 0.0,
        ("GPU-0", "uncorrected"): 0.0,
        ("GPU-1", "corrected"): 12.0,
        ("GPU-1", "uncorrected"): 1.0,
    }
    assert named(found, "dynawatt_gpu_xid_errors_total") == {("GPU-1", "79"): 1.0, ("GPU-1", "31"): 5.0}
    for name, values in {
        "remapped_rows": (0.0, 3.0),
        "row_remap_pending": (0.0, 1.0),
        "row_remap_failed": (0.0, 1.0),
        "mig_enabled": (0.0, 1.0),
        "persistence_mode": (1.0, 0.0),
    }.items():
        assert named(found, f"dynawatt_gpu_{name}") == {("GPU-0",): values[0], ("GPU-1",): values[1]}


def test_what_pods_serve_and_what_it_costs(exported: Exported) -> None:
    def view(energy_j: float, tokens: float) -> NodeView:
        served = pod_serving(
            prompt_tokens=10 * tokens,
            generation_tokens=tokens,
            requests=3.0,
            arrival_dispersion=1.5,
            as_of_s=exported.now_s,
        )
        return node_view(
            energy_j={EnergyKey("GPU-0", A): energy_j, EnergyKey("GPU-1", A): energy_j, EnergyKey("GPU-2", B): 5.0},
            serving={A: served},
        )

    exported.show(view(100.0, 0.0))
    exported.now_s += 1.0
    found = exported.show(view(800.0, 700.0))
    labels = ("prod", "a", "llama")
    assert found["dynawatt_pod_tokens_total", *labels, "prompt"] == 7000.0
    assert found["dynawatt_pod_tokens_total", *labels, "generation"] == 700.0
    assert found["dynawatt_pod_requests_total", *labels] == 3.0
    assert found["dynawatt_pod_arrival_dispersion", *labels] == 1.5
    assert named(found, "dynawatt_pod_energy_joules_total") == {labels: 1600.0, ("prod", "b", ""): 5.0}
    assert named(found, "dynawatt_pod_energy_per_token_joules") == {labels: 2.0}


def test_what_a_governor_does_and_why(exported: Exported) -> None:
    found = exported.show(node_view(governed={A: Governed(800, "load", "")}))
    assert found["dynawatt_governor_clock_hertz", "prod", "a"] == 0.8e9
    reasons = {labels[2]: value for labels, value in named(found, "dynawatt_governor_reason").items()}
    assert reasons == {"starting": 0.0, "burning": 0.0, "settling": 0.0, "load": 1.0, "blind": 0.0}


def test_clock_failures_are_told_before_and_after_they_happen(exported: Exported) -> None:
    failures = {(ClockCommand.LOCK, "NoPermission"): 2, (ClockCommand.RESET, "SomethingNew"): 1}
    found = named(exported.show(node_view(command_failures=failures)), "dynawatt_clock_set_failures_total")
    assert {labels: value for labels, value in found.items() if value} == {
        ("lock", "NoPermission"): 2.0,
        ("reset", "SomethingNew"): 1.0,
    }
    reasons = {"Other", "NotSupported", "NoPermission", "GPULost", "Timeout"}
    assert {labels[1] for labels in found if labels[0] == "supported_clocks"} == reasons


def test_the_agent_itself(exported: Exported) -> None:
    refusals = {A: Refusal(Reason.GPU_SHARED, "2 pods hold it")}
    found = exported.show(
        node_view(commands=7, snapped=2, claims=3, refusals=refusals, cycle_failures=1, scrape_failures=4)
    )
    agent = {key[0].removeprefix("dynawatt_"): value for key, value in found.items() if len(key) == 1}
    assert agent == {
        "clock_commands_total": 7.0,
        "claims_snapped_total": 2.0,
        "agent_claims": 3.0,
        "agent_claims_refused": 1.0,
        "agent_cycle_failures_total": 1.0,
        "agent_scrape_failures_total": 4.0,
        "agent_cycle_seconds": 0.02,
        "agent_last_cycle_timestamp_seconds": 1.7e9,
        "agent_lease_age_seconds": 2.0,
        "agent_lease_fresh": 1.0,
        "agent_switched_off": 0.0,
        "agent_journal_failing": 0.0,
        "agent_allocations_failing": 0.0,
    }


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"switched_off": "ConfigMap dynawatt-switch has enabled: 'false'"}, "switched_off", 1.0),
        ({"journal_problem": "No space left on device"}, "journal_failing", 1.0),
        ({"allocations_problem": "kubelet is away"}, "allocations_failing", 1.0),
        ({"lease": LeaseState(fresh=False, age_s=31.0, reason="not renewed")}, "lease_fresh", 0.0),
    ],
)
def test_what_keeps_clocks_at_default(exported: Exported, changes: dict[str, Any], name: str, value: float) -> None:
    assert exported.show(node_view(**changes))[f"dynawatt_agent_{name}",] == value


@pytest.mark.integration
def test_prometheus_has_nothing_to_object(exported: Exported) -> None:
    health = HEALTH._replace(xids={79: 1})
    shared = Refusal(Reason.GPU_SHARED, "2 pods hold it")
    gpu = gpu_view(pods=(A,), commanded=ClockRange(345, 1200), health=health, energy_only=shared)
    text = ""
    for tokens in (0.0, 1.0):
        exported.now_s += 1.0
        served = pod_serving(generation_tokens=tokens, arrival_dispersion=1.0, as_of_s=exported.now_s)
        energy_j = {EnergyKey("GPU-0", A): tokens}
        view = node_view(gpu, energy_j=energy_j, serving={A: served}, governed={A: Governed(800, "load", "")})
        text = exported.text(view)
    empty = [family.name for family in text_string_to_metric_families(text) if not family.samples]
    assert empty == []
    done = subprocess.run(
        [ensure_built()["promtool"], "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_node_that_really_cycles(exported: Exported, node: Any) -> None:
    pod = node.place("a", 0, claim=(345, 1200))
    for _ in range(3):
        view = node.cycle()
    found = exported.show(view)
    assert found["dynawatt_gpu_requested_clock_hertz", "GPU-0", *pod] == 1.2e9
    assert found["dynawatt_pod_energy_joules_total", *pod, "llama"] > 0.0
    assert found["dynawatt_pod_tokens_total", *pod, "llama", "generation"] > 0.0
    assert found["dynawatt_clock_commands_total",] > 0.0


def test_nothing_before_the_first_cycle(served: Served) -> None:
    assert served.get("/metrics") == (200, "")
    assert served.get("/healthz") == (200, "ok")
    assert served.get("/readyz") == (503, "no cycle has ended yet")


def test_the_last_view_is_served(served: Served) -> None:
    for power_w in (200.0, 300.0):
        served.collector.view = node_view(gpu_view(reading=READING._replace(power_w=power_w)))
    status, text = served.get("/metrics")
    assert status == 200
    assert 'dynawatt_gpu_power_watts{gpu_uuid="GPU-0",namespace="",node="gpu-node-0",pod=""} 300.0' in text


def test_probes_follow_the_cycles(served: Served) -> None:
    served.collector.view = node_view()
    assert [served.get(path) for path in ("/healthz", "/readyz")] == [(200, "ok")] * 2
    served.problem = "the last complete cycle ended 10 s ago"
    assert [served.get(path) for path in ("/healthz", "/readyz")] == [(503, served.problem)] * 2
    served.problem = ""
    assert [served.get(path) for path in ("/healthz", "/readyz")] == [(200, "ok")] * 2


def test_other_paths_are_refused(served: Served) -> None:
    assert served.get("/") == (404, "there are /metrics, /healthz and /readyz")


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperationError, match=f"metrics on 127.0.0.1:{port}: Address already in use; give another"):
            ExportServer(collector=NodeCollector("n"), unhealthy=lambda: "", address="127.0.0.1", port=port)
