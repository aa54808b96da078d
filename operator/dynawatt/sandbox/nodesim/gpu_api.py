"""The GPUs over HTTP on loopback: what NVML and the kubelet's PodResources would answer on each node."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiohttp import web

from dynawatt.sandbox.nodesim.gpus import SimulatedGpu, UnsupportedClockError
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
        app.router.add_post("/nodes/{node}/gpus/{uuid}/lock", self._lock)
        app.router.add_post("/nodes/{node}/gpus/{uuid}/reset", self._reset)
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
            return _unknown_node(request)
        return web.json_response({"gpus": [self._describe(node, gpu) for gpu in node.gpus]})

    async def _lock(self, request: web.Request) -> web.Response:
        gpu = self._find(request)
        if gpu is None:
            return _unknown_gpu(request)
        try:
            fields = await request.json()
            min_mhz, max_mhz = fields["minMhz"], fields["maxMhz"]
        except (ValueError, KeyError, TypeError):
            return _error(400, "the body must be a JSON object with minMhz and maxMhz")
        if type(min_mhz) is not int or type(max_mhz) is not int:
            return _error(400, f"minMhz {min_mhz!r} and maxMhz {max_mhz!r} must be whole numbers of MHz")
        try:
            gpu.lock(self._now_s(), min_mhz, max_mhz)
        except UnsupportedClockError as error:
            return _error(400, str(error))
        return web.json_response({})

    async def _reset(self, request: web.Request) -> web.Response:
        gpu = self._find(request)
        if gpu is None:
            return _unknown_gpu(request)
        gpu.reset(self._now_s())
        return web.json_response({})

    def _find(self, request: web.Request) -> SimulatedGpu | None:
        node = self._nodes.get(request.match_info["node"])
        gpus = node.gpus if node else []
        return next((gpu for gpu in gpus if gpu.uuid == request.match_info["uuid"]), None)

    def _describe(self, node: SimulatedNode, gpu: SimulatedGpu) -> dict[str, Any]:
        reading = gpu.read(self._now_s())
        pod = node.holder(gpu)
        return {
            "uuid": gpu.uuid,
            "product": gpu.spec.product,
            "supportedClocksMhz": gpu.spec.supported_clocks_mhz,
            "smClockMhz": reading.clock_mhz,
            "powerW": reading.power_w,
            "energyJ": reading.energy_j,
            "pod": {"namespace": pod.namespace, "name": pod.name} if pod else None,
        }


def _unknown_node(request: web.Request) -> web.Response:
    return _error(404, f"node {request.match_info['node']!r} has no simulated GPUs")


def _unknown_gpu(request: web.Request) -> web.Response:
    return _error(404, f"GPU {request.match_info['uuid']!r} is not on node {request.match_info['node']!r}")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
