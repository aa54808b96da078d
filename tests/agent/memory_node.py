"""A node in memory: the ports implemented with switches for every failure, under a clock that tests move."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.journal import Journal
from dynawatt.agent.loop import Agent
from dynawatt.agent.view import NodeView
from dynawatt.governing.reading import PodReading
from dynawatt.ports import (
    AllocationsUnavailable,
    ClockMethod,
    EnergySource,
    GpuError,
    GpuHealth,
    GpuReading,
    GpuTimeoutError,
    HeldDevice,
    PodKey,
    Scrape,
    ScrapeTarget,
)

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


class Killed(BaseException):
    """The agent's process ends here, as by SIGKILL: nothing after it is carried out."""


@dataclass
class MemoryGpu:
    """A GPU whose driver can refuse, hang, restart, or see its caller die; it knows what the journal must name."""

    uuid: str
    node: "Node"
    supported: Sequence[int] = H100_MHZ
    product: str = "NVIDIA-H100-80GB-HBM3"
    locked: tuple[int, int] | None = None
    broken: set[str] = field(default_factory=set)
    hangs: bool = False
    takes_s: float = 0.0
    offset_j: float = 0.0
    health_: GpuHealth = field(default_factory=lambda: GpuHealth(persistence=True))
    clock_method: ClockMethod = ClockMethod.LOCKED_CLOCKS
    energy_source: EnergySource = EnergySource.COUNTER
    calls: list[str] = field(default_factory=list)
    called_s: list[float] = field(default_factory=list)
    begun: list[tuple[int, int] | None] = field(default_factory=list)

    def wake(self) -> None:
        """The driver goes on: what it had begun takes effect after all."""
        self.hangs = False
        for locked in self.begun:
            self.locked = locked
        self.begun.clear()

    def _use(self, call: str) -> None:
        self.node.now_s += self.takes_s
        if call in self.broken:
            raise GpuError(f"{self.uuid}: {call} fails")
        if self.hangs and call not in {"lock", "reset"}:
            raise GpuTimeoutError(f"{self.uuid}: {call} has not returned yet")

    def _set(self, call: str, locked: tuple[int, int] | None) -> None:
        self.node.moment()
        self.calls.append(call)
        self.called_s.append(self.node.now_s)
        self._use(call.partition(" ")[0])
        if self.hangs:
            if not self.begun:  # further calls are not even begun
                self.begun.append(locked)
            raise GpuTimeoutError(f"{self.uuid}: {call} has not returned yet")
        self.locked = locked
        self.node.moment()

    def supported_clocks_mhz(self) -> Sequence[int]:
        self._use("supported")
        return self.supported

    def lock_clocks(self, min_mhz: int, max_mhz: int) -> None:
        # The agent survives any error of a driver, so that an assertion would not be noticed.
        if self.uuid not in self.node.journalled():
            pytest.fail(f"{self.uuid} is locked before the journal names it")
        if not {min_mhz, max_mhz} <= set(self.supported):
            pytest.fail(f"{self.uuid} is locked to {min_mhz}-{max_mhz} MHz, which it does not support")
        self._set(f"lock {min_mhz}-{max_mhz}", (min_mhz, max_mhz))

    def reset_clocks(self) -> None:
        self._set("reset", None)

    def read(self) -> GpuReading:
        self._use("read")
        clock_mhz = self.locked[1] if self.locked else 1980.0
        return GpuReading(clock_mhz, 100.0, self.offset_j + 100.0 * self.node.now_s, 40.0, frozenset())

    def health(self) -> GpuHealth:
        self._use("health")
        return self.health_


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
    """GPUs, allocations, pods, Lease and switch of one node, its disk, and the agent that governs it."""

    def __init__(self, directory: Path, gpu_count: int = 4) -> None:
        self.now_s = 1000.0
        self.unix_s = 1.7e9
        self.disk_full = False
        self.moments_left: int | None = None
        self.directory = directory
        self.journal: Journal | None = None
        self.switch_: dict[str, Any] | None = None
        self.switch_known = True
        self.gpus = [MemoryGpu(f"GPU-{index}", self) for index in range(gpu_count)]
        self.allocations: dict[PodKey, list[str]] | None = {}
        self.kubelet_away = False
        self.pods_: dict[PodKey, dict[str, Any]] | None = {}
        self.pods_known = True
        self.pods_heard_s: float | None = None
        self.lease_: dict[str, Any] | None = None
        self.lease_known = True
        self.loads: dict[PodKey, Load] = {}
        self.targets: dict[PodKey, ScrapeTarget] = {}
        self.views: list[NodeView] = []
        self.agent = self.start_agent()

    def start_agent(self) -> Agent:
        """A new agent, as after a kill: the journal is what is left of the one before."""
        self.close()
        self.journal = Journal(self.directory)
        return Agent(
            actuator=Actuator(self.gpus, journal=self.journal, clock_s=lambda: self.now_s),
            allocations=self,
            pod_metrics=self,
            cluster=self,
            lease_name=LEASE,
            publish=self.views.append,
            clock_s=lambda: self.now_s,
            unix_s=lambda: self.unix_s + self.now_s,
        )

    def close(self) -> None:
        """Let go of the journal, as the end of a process does."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None

    def restart(self) -> None:
        """Kill the agent, and start it again."""
        for gpu in self.gpus:
            gpu.wake()  # a process is not gone before its last call has returned
        self.moments_left = None
        self.agent = self.start_agent()

    # What the agent's process depends on
    def moment(self) -> None:
        """One of the moments at which a process may be killed."""
        if self.moments_left is not None:
            self.moments_left -= 1
            if self.moments_left < 0:
                raise Killed

    def flush(self) -> None:
        self.moment()
        if self.disk_full:
            raise OSError(28, "No space left on device")

    def journalled(self) -> set[str]:
        """The GPUs that the journal names on disk."""
        path = self.directory / "clocks.json"
        return set(json.loads(path.read_bytes())["gpus"]) if path.exists() else set()

    # The ports
    def held_devices(self) -> list[HeldDevice]:
        if self.allocations is None or self.kubelet_away:
            raise AllocationsUnavailable("kubelet is away")
        return [HeldDevice(pod, "nvidia.com/gpu", uuid) for pod, uuids in self.allocations.items() for uuid in uuids]

    def read(self, targets: dict[PodKey, ScrapeTarget]) -> dict[PodKey, Scrape]:
        self.targets = dict(targets)
        return {pod: self.loads[pod].scrape(self.now_s) for pod in targets}

    def switch(self) -> tuple[bool, dict[str, Any] | None]:
        return self.switch_known, self.switch_

    def pods(self) -> list[dict[str, Any]] | None:
        return list(self.pods_.values()) if self.pods_ is not None and self.pods_known else None

    def pods_age_s(self) -> float:
        return 0.0 if self.pods_heard_s is None else self.now_s - self.pods_heard_s

    def lease(self) -> tuple[bool, dict[str, Any] | None]:
        return self.lease_known, self.lease_

    # What tests do to it
    def place(self, name: str, *gpu_indexes: int, claim: tuple[int, int] | str | None = None, uid: str = "") -> PodKey:
        assert self.pods_ is not None
        assert self.allocations is not None
        key = PodKey("prod", name)
        self.allocations[key] = [self.gpus[index].uuid for index in gpu_indexes]
        annotations = {}
        if claim is not None:
            annotations["dynawatt.dev/clock-claim"] = claim if isinstance(claim, str) else claim_text(*claim)
        meta = {"namespace": "prod", "name": name, "uid": uid or name, "annotations": annotations}
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "podIP": f"10.0.0.{len(self.pods_)}", "conditions": conditions}
        spec = {"containers": [{"name": "vllm", "command": ["vllm", "serve", "m", "--port=8001"]}]}
        self.pods_[key] = {"metadata": meta, "spec": spec, "status": status}
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
