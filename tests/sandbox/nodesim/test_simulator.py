import asyncio

import aiohttp
import pytest

from dynawatt.sandbox.nodesim.driver_bridge import DriverBridge, driver_state_path
from dynawatt.sandbox.nodesim.nodes import GPU_LABEL
from dynawatt.sandbox.nodesim.simulator import NodeSimulator
from dynawatt.sandbox.nodesim.state import AllocationState

from .conftest import MODEL, free_port

PORT = free_port()


class NoWriter:
    async def delete(self, pod, uid):
        pass

    async def warn(self, pod, uid, reason, message):
        raise AssertionError(message)


def node(name, gpus=8, gpu="h100-sxm"):
    return {
        "metadata": {"name": name, "labels": {GPU_LABEL: gpu}},
        "status": {"capacity": {"nvidia.com/gpu": str(gpus)}},
    }


def pod(index, node_name="gpu-node-0", gpus=2, image="vllm/vllm-openai", phase="Running"):
    container = {
        "name": "main",
        "image": image,
        "args": [MODEL, "-tp", str(gpus), "--port", str(PORT)],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
    }
    return {
        "metadata": {"namespace": "default", "name": f"pod-{index}", "uid": f"uid-{index}"},
        "spec": {"nodeName": node_name, "containers": [container]},
        "status": {
            "phase": phase,
            "podIP": f"127.11.7.{index + 1}",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def by_uid(*pods):
    return {pod["metadata"]["uid"]: pod for pod in pods}


def start(folder):
    now_s = asyncio.get_running_loop().time
    bridge = DriverBridge(folder, now_s=now_s)
    return NodeSimulator(writer=NoWriter(), state=AllocationState(folder), now_s=now_s, services=[bridge])


@pytest.fixture
async def simulator(tmp_path):
    made = start(tmp_path)
    yield made
    await made.stop()


async def health(index):
    url = f"http://127.11.7.{index + 1}:{PORT}/health"
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            return response.status
    except aiohttp.ClientError:
        return None


def allocated(simulator, name="gpu-node-0"):
    return {uid: len(held.gpus) for uid, held in simulator.nodes[name].allocations.items()}


async def test_every_vllm_pod_gets_its_own_server_and_gpus(simulator):
    await simulator.reconcile([node("gpu-node-0")], by_uid(pod(0), pod(1, gpus=4)))
    await asyncio.sleep(0.1)
    assert [await health(0), await health(1)] == [200, 200]
    assert allocated(simulator) == {"uid-0": 2, "uid-1": 4}
    await simulator.reconcile([node("gpu-node-0")], by_uid(pod(1, gpus=4)))
    assert [await health(0), await health(1)] == [None, 200]
    assert allocated(simulator) == {"uid-1": 4}


async def test_a_pod_waits_for_the_gpus_of_its_predecessor(simulator):
    await simulator.reconcile([node("gpu-node-0")], by_uid(pod(0, gpus=8), pod(1, gpus=4)))
    await asyncio.sleep(0.1)
    assert [await health(0), await health(1)] == [200, None]
    await simulator.reconcile([node("gpu-node-0")], by_uid(pod(1, gpus=4)))
    await asyncio.sleep(0.1)
    assert [await health(0), await health(1)] == [None, 200]


@pytest.mark.parametrize(
    ("other", "gpus"),
    [
        (pod(0, image="nginx"), {"uid-0": 2}),
        (pod(0, phase="Failed"), {}),
        (pod(0, node_name="somewhere-else"), {}),
    ],
)
async def test_other_pods_have_no_server(simulator, other, gpus):
    await simulator.reconcile([node("gpu-node-0")], by_uid(other))
    await asyncio.sleep(0.05)
    assert await health(0) is None
    assert allocated(simulator) == gpus


async def test_only_nodes_with_gpus_of_a_known_kind(simulator, tmp_path):
    await simulator.reconcile([node("a"), node("b", gpu="abacus"), node("c", gpus=0), node("d", gpus=17)], {})
    assert list(simulator.nodes) == ["a"]
    assert driver_state_path(tmp_path, "a").exists()
    await simulator.reconcile([node("c", gpus=4)], {})
    assert {name: len(found.gpus) for name, found in simulator.nodes.items()} == {"c": 4}
    assert list(tmp_path.glob("nvml/*")) == [driver_state_path(tmp_path, "c")]


async def test_a_restarted_simulator_keeps_counters_and_allocations(simulator, tmp_path):
    objects = [node("gpu-node-0")], by_uid(pod(1, gpus=4))
    await simulator.reconcile([node("gpu-node-0")], by_uid(pod(0, gpus=4), pod(1, gpus=4)))
    for index, gpu in enumerate(simulator.nodes["gpu-node-0"].gpus):
        gpu.add_energy(1000.0 * index)
    await simulator.reconcile(*objects)
    simulator._services[0].close()
    await simulator.stop()
    again = start(tmp_path)
    await again.reconcile(*objects)
    gpus = again.nodes["gpu-node-0"].gpus
    now_s = asyncio.get_running_loop().time()
    assert [gpus.index(gpu) for gpu in again.nodes["gpu-node-0"].allocations["uid-1"].gpus] == [4, 5, 6, 7]
    assert [round(gpu.read(now_s).energy_j, -3) for gpu in gpus] == [1000.0 * index for index in range(8)]
    await again.stop()
