"""The GPUs over HTTP on loopback, for those who watch: agents use NVML and the kubelet's PodResources instead."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from dynawatt.sandbox.nodesim.gpus import SimulatedGpu
from dynawatt.sandbox.nodesim.nodes import SimulatedNode


class GpuApi:
    """Handlers over the nodes that exist now."""

    def __init__(
        self, nodes: Mapping[str, SimulatedNode], *, is_synced: Callable[[], bool], now_s: Callable[[], float]
    ) -> None:
        self._nodes: Final = nodes
        self._is_synced = is_synced
        self._now_s = now_s

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/energy", self._energy)
        app.router.add_get("/nodes/{node}/gpus", self._gpus)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        if self._is_synced():
            return web.Response(text="ok")
        return web.Response(status=503, text="nodes and pods have not been listed yet")

    async def _energy(self, _request: web.Request) -> web.Response:
        now_s = self._now_s()
        energies_j = [gpu.read(now_s).energy_j for node in self._nodes.values() for gpu in node.gpus]
        return web.json_response({"timeS": time.time(), "energyJ": sum(energies_j), "gpus": len(energies_j)})

    async def _gpus(self, request: web.Request) -> web.Response:
        node = self._nodes.get(request.match_info["node"])
        if node is None:
            return web.json_response(
                {"error": f"node {request.match_info['node']!r} has no simulated GPUs"}, status=404
            )
        return web.json_response({"gpus": [self._describe(node, gpu) for gpu in node.gpus]})

    def _describe(self, node: SimulatedNode, gpu: SimulatedGpu) -> dict[str, Any]:
        reading = gpu.read(self._now_s())
        pod = node.holder(gpu)
        return {
            "uuid": gpu.uuid,
            "product": gpu.spec.product,
            "smClockMhz": reading.clock_mhz,
            "powerW": reading.power_w,
            "energyJ": reading.energy_j,
            "pod": {"namespace": pod.namespace, "name": pod.name} if pod else None,
        }
