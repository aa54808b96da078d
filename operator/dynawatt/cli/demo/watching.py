"""Follows the service while the demo runs: its status, its GPUs' energy, every decision and change."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import API_ERRORS, request_json, resource_path
from dynawatt.api.group import API_VERSION, LLMSERVICE_PLURAL
from dynawatt.api.llmservice_status import Change, Decision, LLMServiceStatus
from dynawatt.ports import GpuError
from dynawatt.sandbox.simulated_gpus import SimulatedNodeClient


@dataclass(slots=True)
class ServiceWatch:
    """Polls; what it saw last is free to read."""

    api: ApiClient
    nodesim_url: str
    nodes: Sequence[str]
    namespace: str
    name: str
    status: LLMServiceStatus = field(default_factory=LLMServiceStatus)
    decisions: list[Decision] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    readings: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=15))
    """(time, energy of all GPUs), in s and J."""
    clock_mhz: float | None = None
    """Mean SM clock of the GPUs that pods hold now; None while none does."""
    clock_range_mhz: tuple[float, float] | None = None
    """Lowest and highest mean clock since the start."""
    _clients: list[SimulatedNodeClient] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is requested yet."""
        self._clients = [SimulatedNodeClient(self.nodesim_url, node) for node in self.nodes]

    @property
    def power_w(self) -> float:
        """Mean power of all GPUs over the last readings."""
        if len(self.readings) < 2:
            return 0.0
        (first_s, first_j), (last_s, last_j) = self.readings[0], self.readings[-1]
        return (last_j - first_j) / (last_s - first_s) if last_s > first_s else 0.0

    async def energy(self) -> tuple[float, float]:
        """(unix time in s, energy of all GPUs in J) now. Raises httpx.HTTPError."""
        return await asyncio.to_thread(self._read_energy)

    async def follow(self, interval_s: float = 1.0) -> None:
        """Poll until cancelled; a failed poll is skipped."""
        while True:
            try:
                self.readings.append(await self.energy())
                self._take_clock(await asyncio.to_thread(self._read_clock))
                self._take(await asyncio.to_thread(self.read_status))
            except (httpx.HTTPError, GpuError, *API_ERRORS):
                pass
            await asyncio.sleep(interval_s)

    def read_status(self) -> LLMServiceStatus:
        """Status of the LLMService now. Raises API_ERRORS."""
        path = resource_path(API_VERSION, LLMSERVICE_PLURAL, namespace=self.namespace, name=self.name)
        body: dict[str, Any] = request_json(self.api, "GET", path)
        return LLMServiceStatus.model_validate(body.get("status") or {})

    def _take(self, status: LLMServiceStatus) -> None:
        self.status = status
        if status.last_decision is not None and status.last_decision not in self.decisions:
            self.decisions.append(status.last_decision)
        self.changes.extend(change for change in reversed(status.last_changes) if change not in self.changes)

    def _take_clock(self, clock_mhz: float | None) -> None:
        self.clock_mhz = clock_mhz
        if clock_mhz is not None:
            lowest, highest = self.clock_range_mhz or (clock_mhz, clock_mhz)
            self.clock_range_mhz = min(lowest, clock_mhz), max(highest, clock_mhz)

    def _read_clock(self) -> float | None:
        gpus = [node.gpu(device.uuid) for node in self._clients for device in node.devices()]
        clocks_mhz = [float(gpu["smClockMhz"]) for gpu in gpus if gpu["pod"] is not None]
        return sum(clocks_mhz) / len(clocks_mhz) if clocks_mhz else None

    def _read_energy(self) -> tuple[float, float]:
        answer = httpx.get(f"{self.nodesim_url}/energy", timeout=10.0).raise_for_status().json()
        return float(answer["timeS"]), float(answer["energyJ"])
