"""Agents that died and have not come back: the clocks of their nodes stay as they were commanded last.

An agent that stops in order resets all clocks first and says so in its GPUNode. One that is killed cannot, and
until another one starts on its node, nobody resets them.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from dynawatt.adapters.agent_cycles import cycle_ages_s
from dynawatt.adapters.kubernetes.client import KubernetesObject
from dynawatt.api.gpunode import GPUNodeStatus
from dynawatt.ports import MetricsSource, MetricsUnavailable

_LOOKS_WITHIN_STALE: Final = 10
_NAMED: Final = 3

_log = logging.getLogger(__name__)


class SilentAgents:
    """Asks Prometheus for the last cycles of all agents, at a constant rate however many services and nodes there are.

    What it does not answer, and nodes that it does not know, stay as they were.
    """

    def __init__(self, metrics: MetricsSource | None, *, stale_s: float) -> None:
        """``metrics`` has what agents tell, None where there is no Prometheus; ``stale_s`` is the age of a dead one."""
        self._metrics = metrics
        self._stale_s = stale_s
        self._suspects: frozenset[str] | None = None
        """Nodes whose agents were silent in the last answer; None before the first."""
        self.silent: frozenset[str] = frozenset()
        """Nodes whose agents are."""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await self.look()
            except MetricsUnavailable as error:
                self._suspects = self._suspects or frozenset()
                _log.debug("agents=unknown error=%r", str(error))
            await asyncio.sleep(self._stale_s / _LOOKS_WITHIN_STALE)

    async def look(self) -> None:
        """Ask once. Raises MetricsUnavailable.

        Two answers in a row must tell the same: when Prometheus comes back, it has scraped others before the agents.
        Only the very first is believed at once, so that an operator that restarts plans as the one before it.
        """
        if self._metrics is None:
            return
        ages_s = await cycle_ages_s(self._metrics)
        stale = frozenset(node for node, age_s in ages_s.items() if age_s > self._stale_s)
        believed = stale if self._suspects is None else stale & self._suspects
        silent = (self.silent - ages_s.keys()) | (self.silent & stale) | believed
        if silent != self.silent:
            _log.warning("agents silent=%s", ",".join(sorted(silent)) or "none")
        self._suspects, self.silent = stale, silent


class StuckClocks(NamedTuple):
    """GPUs of a service that may be locked at a clock which nobody moves."""

    nodes: Sequence[str]
    clock_mhz: int
    """The lowest that it may be."""

    def __str__(self) -> str:
        """A clause for people."""
        more = f" and {len(self.nodes) - _NAMED} more" if len(self.nodes) > _NAMED else ""
        named = ", ".join(self.nodes[:_NAMED])
        return f"no agent is heard of on {named}{more}: GPUs there may be locked at {self.clock_mhz} MHz"


def stuck_clocks(
    pods: Sequence[KubernetesObject], reports: Mapping[str, GPUNodeStatus], silent: Collection[str]
) -> StuckClocks | None:
    """Which clocks of a service are stuck; None where none are.

    An agent reports within which claim it keeps a GPU, and takes that back when it resets it: what it reported last
    is what it left.

    Args:
        pods: Of the service, those that serve.
        reports: What agents reported last, by node.
        silent: Nodes whose agents are gone.
    """
    floors_mhz: dict[str, list[int]] = defaultdict(list)
    for pod in pods:
        node = pod["spec"]["nodeName"]
        if node in silent and node in reports:
            floors_mhz[node] += _floors_mhz(pod, reports[node])
    stuck = sorted(node for node, floors in floors_mhz.items() if floors)
    return StuckClocks(stuck, min(min(floors_mhz[node]) for node in stuck)) if stuck else None


def _floors_mhz(pod: KubernetesObject, report: GPUNodeStatus) -> list[int]:
    """Of the claims that its GPUs were kept within; those of the node for a pod that came after its agent had died."""
    holder = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    own = [gpu for gpu in report.gpus if gpu.allocated_to == holder]
    return [gpu.claim.min_megahertz for gpu in own or report.gpus if gpu.claim is not None]
