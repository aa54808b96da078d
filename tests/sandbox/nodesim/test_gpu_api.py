import asyncio

import pytest
from aiohttp.test_utils import TestServer

from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import AllocationsUnavailable, GpuError, PodKey
from dynawatt.sandbox.nodesim.gpu_api import GpuApi
from dynawatt.sandbox.nodesim.nodes import SimulatedNode
from dynawatt.sandbox.simulated_gpus import SimulatedNodeClient


class Machine:
    def __init__(self):
        self.now_s = 0.0
        self.synced = True
        names = ("gpu-node-0", "gpu-node-1")
        self.nodes = {n: SimulatedNode.create(n, spec=H100_SXM, gpu_count=8, now_s=0.0) for n in names}
        api = GpuApi(self.nodes, is_synced=lambda: self.synced, now_s=lambda: self.now_s)
        self.server = TestServer(api.application())

    def client(self, node="gpu-node-0"):
        return SimulatedNodeClient(str(self.server.make_url("/")), node)


@pytest.fixture
async def machine():
    made = Machine()
    async with made.server:
        yield made


async def test_devices_read_like_real_gpus(machine):
    def read(client):
        gpu = client.devices()[0]
        return gpu.uuid, gpu.product, gpu.supported_clocks_mhz(), gpu.sm_clock_mhz(), gpu.power_w(), gpu.energy_j()

    machine.now_s = 10.0
    uuid, product, clocks_mhz, clock_mhz, power_w, energy_j = await asyncio.to_thread(read, machine.client())
    assert uuid == machine.nodes["gpu-node-0"].gpus[0].uuid
    assert product == "NVIDIA-H100-80GB-HBM3"
    assert (clocks_mhz[0], clocks_mhz[-1], len(clocks_mhz)) == (345, 1980, 110)
    assert (clock_mhz, power_w, energy_j) == (1980.0, 70.0, 700.0)


async def test_lock_and_reset(machine):
    def command(action, *args):
        client = machine.client()
        gpu = client.devices()[3]
        getattr(gpu, action)(*args)
        machine.now_s += 1.0
        return [gpu.sm_clock_mhz() for gpu in client.devices()]

    assert await asyncio.to_thread(command, "lock_clocks", 345, 1200) == [1980.0] * 3 + [1200.0] + [1980.0] * 4
    assert await asyncio.to_thread(command, "reset_clocks") == [1980.0] * 8
    with pytest.raises(GpuError, match=r"1200\.\.900 MHz is not supported"):
        await asyncio.to_thread(command, "lock_clocks", 1200, 900)


async def test_allocations_are_read_afresh(machine):
    client, pod = machine.client(), PodKey("prod", "llama-0")
    assert await asyncio.to_thread(client.gpus_by_pod) == {}
    node = machine.nodes["gpu-node-0"]
    node.allocate({"u": (pod, 4)}, 0.0)
    assert await asyncio.to_thread(client.gpus_by_pod) == {pod: [gpu.uuid for gpu in node.gpus[:4]]}
    await machine.server.close()
    with pytest.raises(AllocationsUnavailable, match="did not answer"):
        await asyncio.to_thread(client.gpus_by_pod)


async def test_unknown_node_and_gpu(machine):
    with pytest.raises(GpuError, match="'gpu-node-9' has no simulated GPUs"):
        await asyncio.to_thread(machine.client("gpu-node-9").devices)
    with pytest.raises(GpuError, match="GPU 'GPU-x' is not on node"):
        await asyncio.to_thread(machine.client().command, "GPU-x", "reset", {})


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"minMhz": "345", "maxMhz": 900}', b'{"minMhz": 345.5, "maxMhz": 900}']
)
async def test_malformed_lock_requests(machine, body):
    import aiohttp

    uuid = machine.nodes["gpu-node-0"].gpus[0].uuid
    url = machine.server.make_url(f"/nodes/gpu-node-0/gpus/{uuid}/lock")
    async with aiohttp.ClientSession() as http, http.post(url, data=body) as response:
        assert response.status == 400
        assert "minMhz" in (await response.json())["error"]


async def test_total_energy_and_health(machine):
    import aiohttp

    machine.now_s = 2.0
    async with aiohttp.ClientSession(machine.server.make_url("/")) as http:
        async with http.get("/energy") as response:
            answer = await response.json()
        assert (answer["energyJ"], answer["gpus"]) == (16 * 70.0 * 2, 16)
        async with http.get("/healthz") as response:
            assert response.status == 200
        machine.synced = False
        async with http.get("/healthz") as response:
            assert response.status == 503
