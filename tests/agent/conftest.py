"""A node in memory: the ports implemented with switches for every failure, under a clock that tests move."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.loop import Agent
from dynawatt.agent.view import NodeView
from dynawatt.governing.reading import PodReading
from dynawatt.ports import AllocationsUnavailable, GpuError, PodKey, Scrape, ScrapeTarget

H100_MHZ = tuple(range(345, 1981, 15))
LEASE = "dynawatt-system/dynawatt-operator"
TABLE = {
    "attainment": 0.99,
    "tbt": 0.1,
    "drain": 0.5,
    "prompt": 1000,
    "kv": 400,
    "ttft": False,
    "rows": [[800, 1, 8000, 20], [1200, 3, 12000, 60], [1600, 6, 16000, 100], [1980, 8, 20000, 140]],
}


@dataclass
class MemoryGpu:
    uuid: str
    clock_s: Callable[[], float]
    supported: Sequence[int] = H100_MHZ
    product: str = "NVIDIA-H100-80GB-HBM3"
    locked: tuple[int, int] | None = None
    broken: set[str] = field(default_factory=set)
    offset_j: float = 0.0
    calls: list[str] = field(default_factory=list)

    def _use(self, call: str) -> None:
        if call in self.broken:
            raise GpuError(f"{self.uuid}: {call} fails")

    def supported_clocks_mhz(self) -> Sequence[int]:
        self._use("supported")
        return self.supported

    def lock_clocks(self, min_mhz: int, max_mhz: int) -> None:
        self.calls.append(f"lock {min_mhz}-{max_mhz}")
        self._use("lock")
        assert min_mhz in self.supported
        assert max_mhz in self.supported
        self.locked = (min_mhz, max_mhz)

    def reset_clocks(self) -> None:
        self.calls.append("reset")
        self._use("reset")
        self.locked = None

    def sm_clock_mhz(self) -> float:
        self._use("read")
        return self.locked[1] if self.locked else 1980

    def power_w(self) -> float:
        self._use("read")
        return 100.0

    def energy_j(self) -> float:
        self._use("read")
        return self.offset_j + 100.0 * self.clock_s()


@dataclass
class Load:
    """What a pod's metrics show: requests that arrive at a rate, each with a first token and ten gaps.

    Unless a test says otherwise, more than any clock carries: the governor stays at the ceiling.
    """

    rate_rps: float = 50.0
    waiting: float = 0.0
    requests: float = 0.0
    late_gaps: float = 0.0
    problem: str = ""

    def scrape(self, now_s: float) -> Scrape:
        if self.problem:
            return Scrape(now_s, None, self.problem)
        done = self.requests
        return Scrape(
            now_s,
            PodReading(
                running=5.0,
                waiting=self.waiting,
                kv_usage=0.01,
                finished=done,
                first_tokens=done,
                first_tokens_met=done,
                gaps=10 * done,
                gaps_met=10 * done - self.late_gaps,
                prompt_tokens=1000 * done,
                generation_tokens=11 * done,
            ),
            "",
        )


class Node:
    """GPUs, allocations, pods and Lease of one node, and the agent that governs it."""

    def __init__(self, gpu_count: int = 4) -> None:
        self.now_s = 1000.0
        self.gpus = [MemoryGpu(f"GPU-{index}", lambda: self.now_s) for index in range(gpu_count)]
        self.allocations: dict[PodKey, list[str]] | None = {}
        self.pods_: dict[PodKey, dict[str, Any]] | None = {}
        self.pods_heard_s: float | None = None
        self.lease_: dict[str, Any] | None = None
        self.lease_known = True
        self.loads: dict[PodKey, Load] = {}
        self.targets: dict[PodKey, ScrapeTarget] = {}
        self.views: list[NodeView] = []
        self.agent = self.start_agent()

    def start_agent(self) -> Agent:
        return Agent(
            actuator=Actuator(self.gpus, clock_s=lambda: self.now_s),
            allocations=self,
            pod_metrics=self,
            cluster=self,
            lease_name=LEASE,
            publish=self.views.append,
            clock_s=lambda: self.now_s,
            unix_s=lambda: 1.7e9 + self.now_s,
        )

    # The ports
    def gpus_by_pod(self) -> dict[PodKey, list[str]]:
        if self.allocations is None:
            raise AllocationsUnavailable("kubelet is away")
        return self.allocations

    def read(self, targets: dict[PodKey, ScrapeTarget]) -> dict[PodKey, Scrape]:
        self.targets = dict(targets)
        return {pod: self.loads[pod].scrape(self.now_s) for pod in targets}

    def pods(self) -> list[dict[str, Any]] | None:
        return None if self.pods_ is None else list(self.pods_.values())

    def pods_age_s(self) -> float:
        return 0.0 if self.pods_heard_s is None else self.now_s - self.pods_heard_s

    def lease(self) -> tuple[bool, dict[str, Any] | None]:
        return self.lease_known, self.lease_

    # What tests do to it
    def place(self, name: str, *gpu_indexes: int, claim: tuple[int, int] | str | None = None) -> PodKey:
        assert self.pods_ is not None
        assert self.allocations is not None
        key = PodKey("prod", name)
        self.allocations[key] = [self.gpus[index].uuid for index in gpu_indexes]
        annotations = {}
        if claim is not None:
            annotations["dynawatt.dev/clock-claim"] = claim if isinstance(claim, str) else claim_text(*claim)
        meta = {"namespace": "prod", "name": name, "annotations": annotations}
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIP": f"10.0.0.{len(self.pods_)}", "conditions": conditions}
        self.pods_[key] = {"metadata": meta, "status": status}
        self.loads.setdefault(key, Load())
        return key

    def remove(self, key: PodKey) -> None:
        assert self.pods_ is not None
        assert self.allocations is not None
        del self.pods_[key], self.allocations[key]

    def renew(self, *, duration_s: int = 30, holder: str = "operator-1") -> None:
        renewed = f"2026-01-01T00:00:00.{round(self.now_s * 1000):09d}Z"
        spec = {"holderIdentity": holder, "leaseDurationSeconds": duration_s, "renewTime": renewed}
        self.lease_ = {"spec": spec}

    def cycle(self, *, after_s: float = 1.0, renew: bool = True) -> NodeView:
        self.now_s += after_s
        for load in self.loads.values():
            load.requests += load.rate_rps * after_s
        if renew:
            self.renew()
        self.agent.cycle()
        return self.views[-1]

    def run(self, seconds: int) -> NodeView:
        for _ in range(seconds):
            view = self.cycle()
        return view

    def locked(self) -> list[tuple[int, int] | None]:
        return [gpu.locked for gpu in self.gpus]


def claim_text(floor_mhz: int, ceiling_mhz: int, *, lease: str = LEASE, **changes: Any) -> str:
    claim = {
        "version": 2,
        "floorMegahertz": floor_mhz,
        "ceilingMegahertz": ceiling_mhz,
        "lease": lease,
        "service": "prod/llama",
        "metricsPort": 8000,
        "table": TABLE,
    }
    return json.dumps(claim | changes)


@pytest.fixture
def node() -> Node:
    """A node whose agent has seen a fresh Lease and no pods."""
    node = Node()
    node.cycle()
    node.cycle()
    return node


@pytest.fixture
def new_node() -> Callable[..., Node]:
    """Makes nodes whose agent has seen nothing."""
    return Node


@pytest.fixture(name="claim_text")
def claim_text_fixture() -> Callable[..., str]:
    return claim_text
