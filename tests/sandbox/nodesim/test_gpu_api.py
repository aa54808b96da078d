import pytest
from aiohttp.test_utils import TestClient, TestServer

from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import PodKey
from dynawatt.sandbox.nodesim.gpu_api import GpuApi
from dynawatt.sandbox.nodesim.nodes import SimulatedNode


class Machine:
    def __init__(self):
        self.now_s = 0.0
        self.synced = True
        names = ("gpu-node-0", "gpu-node-1")
        self.nodes = {n: SimulatedNode.create(n, spec=H100_SXM, gpu_count=8, now_s=0.0) for n in names}
        api = GpuApi(self.nodes, is_synced=lambda: self.synced, now_s=lambda: self.now_s)
        self.http = TestClient(TestServer(api.application()))

    async def get(self, path):
        async with self.http.get(path) as response:
            return response.status, await response.json()


@pytest.fixture
async def machine():
    made = Machine()
    async with made.http:
        yield made


async def test_gpus_are_shown_with_what_they_do_and_who_holds_them(machine):
    machine.now_s = 10.0
    node = machine.nodes["gpu-node-0"]
    node.allocate({"u": (PodKey("prod", "llama-0"), 4)}, 10.0)
    status, answer = await machine.get("/nodes/gpu-node-0/gpus")
    assert (status, len(answer["gpus"])) == (200, 8)
    first, last = answer["gpus"][0], answer["gpus"][-1]
    assert first["uuid"] == node.gpus[0].uuid
    assert first["product"] == "NVIDIA-H100-80GB-HBM3"
    assert (first["smClockMhz"], first["energyJ"]) == (1980, 700.0)
    assert (first["pod"], last["pod"]) == ({"namespace": "prod", "name": "llama-0"}, None)
    assert (last["powerW"], first["powerW"] > 70.0) == (70.0, True)


async def test_unknown_node(machine):
    assert await machine.get("/nodes/gpu-node-9/gpus") == (404, {"error": "node 'gpu-node-9' has no simulated GPUs"})


@pytest.mark.parametrize("action", ["lock", "reset"])
async def test_clocks_cannot_be_set_past_the_driver(machine, action):
    gpu = machine.nodes["gpu-node-0"].gpus[0]
    path = f"/nodes/gpu-node-0/gpus/{gpu.uuid}/{action}"
    async with machine.http.post(path, json={"minMhz": 345, "maxMhz": 900}) as response:
        assert response.status == 404
    assert gpu.locked_mhz is None


async def test_total_energy_and_health(machine):
    machine.now_s = 2.0
    _, answer = await machine.get("/energy")
    assert (answer["energyJ"], answer["gpus"]) == (16 * 70.0 * 2, 16)
    for synced, status in ((True, 200), (False, 503)):
        machine.synced = synced
        async with machine.http.get("/healthz") as response:
            assert response.status == status
