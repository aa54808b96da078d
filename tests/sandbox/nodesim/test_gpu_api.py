from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import PodKey
from dynawatt.sandbox.nodesim.gpu_api import GpuApi
from dynawatt.sandbox.nodesim.nodes import SimulatedNode

POD = PodKey("prod", "llama-0")


class Machine:
    def __init__(self):
        self.now_s = 0.0
        self.synced = True
        names = ("gpu-node-0", "gpu-node-1")
        self.nodes = {n: SimulatedNode.create(n, spec=H100_SXM, gpu_count=8, now_s=0.0) for n in names}
        api = GpuApi(self.nodes, is_synced=lambda: self.synced, now_s=lambda: self.now_s)
        self.server = TestServer(api.application())

    @asynccontextmanager
    async def request(self, path, method="GET", **arguments):
        http = aiohttp.ClientSession(self.server.make_url("/"))
        async with http, http.request(method, path, **arguments) as response:
            yield response

    async def get(self, path):
        async with self.request(path) as response:
            return response.status, await response.json()

    async def gpus(self, node="gpu-node-0"):
        status, answer = await self.get(f"/nodes/{node}/gpus")
        assert status == 200
        return answer["gpus"]


@pytest.fixture
async def machine():
    made = Machine()
    async with made.server:
        yield made


async def test_gpus_show_what_they_are_and_do(machine):
    machine.now_s = 10.0
    gpus = await machine.gpus()
    assert [gpu["uuid"] for gpu in gpus] == [gpu.uuid for gpu in machine.nodes["gpu-node-0"].gpus]
    assert gpus[0] == {
        "uuid": machine.nodes["gpu-node-0"].gpus[0].uuid,
        "product": "NVIDIA-H100-80GB-HBM3",
        "smClockMhz": 1980.0,
        "powerW": 70.0,
        "energyJ": 700.0,
        "pod": None,
    }


async def test_a_clock_that_the_driver_locked_shows(machine):
    machine.nodes["gpu-node-0"].gpus[3].lock(0.0, 345, 1200)
    machine.now_s = 1.0
    assert [gpu["smClockMhz"] for gpu in await machine.gpus()] == [1980.0] * 3 + [1200.0] + [1980.0] * 4


async def test_who_holds_a_gpu_is_read_afresh(machine):
    assert {gpu["pod"] and gpu["pod"]["name"] for gpu in await machine.gpus()} == {None}
    machine.nodes["gpu-node-0"].allocate({"u": (POD, 4)}, 0.0)
    holder = {"namespace": "prod", "name": "llama-0"}
    assert [gpu["pod"] for gpu in await machine.gpus()] == [holder] * 4 + [None] * 4
    assert [gpu["pod"] for gpu in await machine.gpus("gpu-node-1")] == [None] * 8


async def test_unknown_node(machine):
    assert await machine.get("/nodes/gpu-node-9/gpus") == (404, {"error": "node 'gpu-node-9' has no simulated GPUs"})


@pytest.mark.parametrize("action", ["lock", "reset"])
async def test_clocks_cannot_be_set_past_the_driver(machine, action):
    gpu = machine.nodes["gpu-node-0"].gpus[0]
    body = {"minMhz": 345, "maxMhz": 900}
    async with machine.request(f"/nodes/gpu-node-0/gpus/{gpu.uuid}/{action}", "POST", json=body) as response:
        assert response.status in (404, 405)
    assert gpu.locked_mhz is None


async def test_total_energy_and_health(machine):
    machine.now_s = 2.0
    _, answer = await machine.get("/energy")
    assert (answer["energyJ"], answer["gpus"]) == (16 * 70.0 * 2, 16)
    async with machine.request("/healthz") as response:
        assert response.status == 200
    machine.synced = False
    async with machine.request("/healthz") as response:
        assert response.status == 503
