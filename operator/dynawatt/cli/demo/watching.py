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
from dynawatt.cli.demo.agents import Agents, NodeReading, energy_now


def asked_for(status: LLMServiceStatus) -> str:
    """Desired replicas by tensor-parallel size, such as ``2 x TP8 + 1 x TP4``."""
    shapes = [shape for shape in status.shapes if shape.desired_replicas]
    return " + ".join(f"{shape.desired_replicas} x TP{shape.tensor_parallel_size}" for shape in shapes)


@dataclass(slots=True)
class ServiceWatch:
    """Polls; what it saw last is free to read."""

    api: ApiClient
    agents: Agents
    namespace: str
    name: str
    status: LLMServiceStatus = field(default_factory=LLMServiceStatus)
    decisions: list[Decision] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    fleets: list[str] = field(default_factory=list)
    """What replicas were asked for, one after the other, such as ``2 x TP8 + 1 x TP4``."""
    readings: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=15))
    """(time, energy of all GPUs), in s and J."""
    clock_mhz: float | None = None
    """Mean SM clock of the GPUs that pods hold now; None while none does."""
    clock_range_mhz: tuple[float, float] | None = None
    """Lowest and highest mean clock since the start."""

    @property
    def power_w(self) -> float:
        """Mean power of all GPUs over the last readings."""
        if len(self.readings) < 2:
            return 0.0
        (first_s, first_j), (last_s, last_j) = self.readings[0], self.readings[-1]
        return (last_j - first_j) / (last_s - first_s) if last_s > first_s else 0.0

    async def energy(self) -> tuple[float, float]:
        """(unix time in s, energy of all GPUs in J) now. Raises httpx.HTTPError and ValueError."""
        return await asyncio.to_thread(self.agents.energy)

    async def follow(self, interval_s: float = 1.0) -> None:
        """Poll until cancelled; a failed poll is skipped."""
        while True:
            try:
                self._take_nodes(await asyncio.to_thread(self.agents.read))
                self._take(await asyncio.to_thread(self.read_status))
            except (httpx.HTTPError, ValueError, *API_ERRORS):
                pass
            await asyncio.sleep(interval_s)

    def read_status(self) -> LLMServiceStatus:
        """Status of the LLMService now. Raises API_ERRORS."""
        path = resource_path(API_VERSION, LLMSERVICE_PLURAL, namespace=self.namespace, name=self.name)
        body: dict[str, Any] = request_json(self.api, "GET", path)
        return LLMServiceStatus.model_validate(body.get("status") or {})

    def _take(self, status: LLMServiceStatus) -> None:
        self.status = status
        fleet = asked_for(status)
        if fleet and fleet != (self.fleets[-1] if self.fleets else None):
            self.fleets.append(fleet)
        if status.last_decision is not None and status.last_decision not in self.decisions:
            self.decisions.append(status.last_decision)
        self.changes.extend(change for change in reversed(status.last_changes) if change not in self.changes)

    def _take_nodes(self, nodes: Sequence[NodeReading]) -> None:
        self.readings.append(energy_now(nodes))
        clocks_mhz = [clock_mhz for node in nodes for clock_mhz in node.held_clocks_mhz]
        self.clock_mhz = sum(clocks_mhz) / len(clocks_mhz) if clocks_mhz else None
        if self.clock_mhz is not None:
            lowest, highest = self.clock_range_mhz or (self.clock_mhz, self.clock_mhz)
            self.clock_range_mhz = min(lowest, self.clock_mhz), max(highest, self.clock_mhz)
