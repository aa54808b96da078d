"""What the agents of the sandbox measured, from their own /metrics: energy, power and clocks of all GPUs."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from dynawatt.quantities import HZ_PER_MHZ

_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class NodeReading:
    """One node as its agent saw it at the end of a cycle."""

    unix_s: float
    energy_j: float
    """Of all GPUs since the agent started."""
    power_w: float
    """Of all GPUs."""
    clocks_mhz: Sequence[float]
    """Of all GPUs."""
    held_clocks_mhz: Sequence[float]
    """Of the GPUs that pods hold."""

    def energy_at_j(self, unix_s: float) -> float:
        """Joules at a time close to the reading."""
        return self.energy_j + self.power_w * (unix_s - self.unix_s)


def node_reading(page: str) -> NodeReading:
    """A node from its agent's page. Raises ValueError when the agent has measured nothing yet."""
    samples: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append(sample)

    def values(name: str) -> list[float]:
        return [sample.value for sample in samples.get(name, ())]

    clocks = samples.get("dynawatt_gpu_sm_clock_hertz", [])
    ends_s, energies_j = (
        values("dynawatt_agent_last_cycle_timestamp_seconds"),
        values("dynawatt_node_energy_joules_total"),
    )
    if not ends_s or not energies_j:
        raise ValueError("the agent has measured nothing yet")
    return NodeReading(
        unix_s=ends_s[0],
        energy_j=sum(energies_j),
        power_w=sum(values("dynawatt_gpu_power_watts")),
        clocks_mhz=[clock.value / HZ_PER_MHZ for clock in clocks],
        held_clocks_mhz=[clock.value / HZ_PER_MHZ for clock in clocks if clock.labels["pod"]],
    )


class Agents:
    """All agents of a sandbox, asked at once; ``urls`` is where each serves."""

    def __init__(self, urls: Iterable[str]) -> None:
        self._urls: Final = tuple(urls)

    def read(self) -> list[NodeReading]:
        """Every node. Raises httpx.HTTPError and ValueError."""
        with ThreadPoolExecutor(max_workers=max(1, len(self._urls))) as pool:
            return list(pool.map(_read, self._urls))

    def energy(self) -> tuple[float, float]:
        """(unix time in s, joules of all GPUs) now. Raises httpx.HTTPError and ValueError.

        The agents' cycles end at different moments of a second, so each is carried on to the same time by its power.
        """
        return energy_now(self.read())


def energy_now(nodes: Iterable[NodeReading]) -> tuple[float, float]:
    """(unix time in s, joules of all these nodes) now."""
    now_s = time.time()
    return now_s, sum(node.energy_at_j(now_s) for node in nodes)


def _read(url: str) -> NodeReading:
    return node_reading(httpx.get(f"{url}/metrics", timeout=_TIMEOUT_S, trust_env=False).raise_for_status().text)
