import asyncio
import os
import subprocess
import sys

import pytest

from dynawatt.perfmodel.gpus import A100_SXM, H100_SXM
from dynawatt.ports import PodKey
from dynawatt.sandbox.driver.build import ensure_driver
from dynawatt.sandbox.driver.control import SimulatedDriver
from dynawatt.sandbox.driver.statefile import StateFile
from dynawatt.sandbox.nodesim.driver_bridge import DriverBridge, driver_state_path
from dynawatt.sandbox.nodesim.gpus import CLOCK_CHANGE_DELAY_S
from dynawatt.sandbox.nodesim.nodes import SimulatedNode

NODE = "gpu-node-0"


class Machine:
    """One node at a time of the test's choosing; ``restart`` is what a killed simulator's successor does."""

    def __init__(self, folder):
        self.folder = folder
        self.now_s = 100.0
        self.restart()

    def restart(self, *, spec=H100_SXM, gpu_count=4):
        self.node = SimulatedNode.create(NODE, spec=spec, gpu_count=gpu_count, now_s=self.now_s)
        self.bridge = DriverBridge(self.folder, now_s=lambda: self.now_s)
        self.bridge.follow({NODE: self.node})
        self.driver = SimulatedDriver(driver_state_path(self.folder, NODE))
        self.uuids = self.driver.uuids

    def advance(self, seconds):
        self.now_s += seconds
        self.bridge.apply(self.now_s)
        self.bridge.publish(self.now_s)

    def client(self, *statements):
        """Run pynvml statements in a process of its own; ``gpu`` is the handle of GPU 1."""
        program = "\n".join(["from pynvml import *", "nvmlInit()", "gpu = nvmlDeviceGetHandleByIndex(1)", *statements])
        environment = os.environ | self.driver.environment(ensure_driver())
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_gpus_are_shown_as_they_are(machine):
    machine.node.allocate({"u": (PodKey("default", "a"), 2)}, machine.now_s)
    machine.node.gpus[1].run(machine.now_s, 500.0)
    machine.advance(10.0)
    assert machine.uuids == [gpu.uuid for gpu in machine.node.gpus]
    assert machine.driver.read(machine.uuids[1]) == (1980, 500.0, 5000.0)
    assert machine.driver.read(machine.uuids[3]) == (1980, 70.0, 700.0)
    shown = machine.client(
        "print(nvmlDeviceGetUUID(gpu), nvmlDeviceGetName(gpu).replace(' ', '-'))",
        "print(nvmlDeviceGetClockInfo(gpu, NVML_CLOCK_SM), nvmlDeviceGetPowerUsage(gpu))",
        "print(nvmlDeviceGetTotalEnergyConsumption(gpu), nvmlDeviceGetTemperature(gpu, 0))",
        "print(nvmlDeviceGetCurrentClocksEventReasons(gpu))",
    )
    assert shown == [machine.uuids[1], H100_SXM.product, "1980", "500000", "5000000", "59", "0"]


def test_locks_are_applied_late_as_on_hardware_and_reset(machine):
    machine.client("nvmlDeviceSetGpuLockedClocks(gpu, 345, 1000)")
    machine.advance(0.0)
    assert [gpu.locked_mhz for gpu in machine.node.gpus] == [None, (345, 1000), None, None]
    assert machine.driver.read(machine.uuids[1]).clock_mhz == 1980
    machine.advance(CLOCK_CHANGE_DELAY_S)
    assert [machine.driver.read(uuid).clock_mhz for uuid in machine.uuids] == [1980, 990, 1980, 1980]
    machine.client("nvmlDeviceResetGpuLockedClocks(gpu)")
    machine.advance(0.0)
    assert machine.node.gpus[1].locked_mhz is None
    machine.advance(CLOCK_CHANGE_DELAY_S)
    assert machine.driver.read(machine.uuids[1]).clock_mhz == 1980


def test_the_same_lock_twice_is_no_change(machine):
    machine.client("nvmlDeviceSetGpuLockedClocks(gpu, 345, 900)")
    machine.advance(0.0)
    machine.client("nvmlDeviceSetGpuLockedClocks(gpu, 345, 900)")
    machine.advance(CLOCK_CHANGE_DELAY_S)
    assert machine.node.gpus[1].clock_mhz(machine.now_s) == 900


def test_application_clocks_count_while_nothing_is_locked(machine):
    machine.client("nvmlDeviceSetApplicationsClocks(gpu, 2619, 1200)", "nvmlDeviceSetGpuLockedClocks(gpu, 600, 1500)")
    machine.advance(0.0)
    assert machine.node.gpus[1].locked_mhz == (600, 1500)
    machine.client("nvmlDeviceResetGpuLockedClocks(gpu)")
    machine.advance(0.0)
    assert machine.node.gpus[1].locked_mhz == (345, 1200)


def test_locks_and_energy_outlive_the_simulator(machine):
    machine.client("nvmlDeviceSetGpuLockedClocks(gpu, 345, 900)")
    machine.advance(10.0)
    machine.client("nvmlDeviceSetGpuLockedClocks(gpu, 345, 600)")  # not seen any more by the one that is killed
    machine.restart()
    assert machine.node.gpus[1].locked_mhz == (345, 600)
    machine.advance(1.0)
    assert machine.driver.read(machine.uuids[1]) == (600, 70.0, 770.0)
    assert machine.driver.locked_mhz(machine.uuids[1]) == (345, 600)


def test_a_client_goes_on_with_the_next_simulator(machine):
    driver = machine.driver
    machine.restart()
    machine.advance(5.0)
    assert driver.read(machine.uuids[0]).energy_j == pytest.approx(350.0)


@pytest.mark.parametrize("other", [{"gpu_count": 2}, {"spec": A100_SXM, "gpu_count": 8}])
def test_a_file_of_other_gpus_is_replaced(machine, other):
    machine.client("nvmlDeviceSetGpuLockedClocks(gpu, 345, 900)")
    machine.restart(**other)
    assert len(machine.uuids) == other["gpu_count"]
    assert all(gpu.locked_mhz is None for gpu in machine.node.gpus)


def test_a_file_of_another_version_is_replaced(machine):
    path = driver_state_path(machine.folder, NODE)
    path.write_bytes(b"other")
    machine.restart()
    assert len(StateFile(path).gpus) == 4


def test_the_file_goes_with_its_node(machine):
    path = driver_state_path(machine.folder, NODE)
    other = SimulatedNode.create("other", spec=H100_SXM, gpu_count=1, now_s=0.0)
    machine.bridge.follow({NODE: machine.node, "other": other})
    machine.bridge.follow({"other": other})
    assert not path.exists()
    assert driver_state_path(machine.folder, "other").exists()
    machine.bridge.close()
    assert driver_state_path(machine.folder, "other").exists()


def test_a_client_that_stands_still_does_not_stop_the_simulator(machine):
    other = StateFile(driver_state_path(machine.folder, NODE))
    with other.locked():
        machine.advance(1.0)
        assert other.gpus[0].motions[other.gpus[0].motion].energy_j == 0.0
    machine.advance(1.0)
    assert machine.driver.read(machine.uuids[0]).energy_j == 140.0


async def test_it_runs_by_itself(tmp_path):
    loop = asyncio.get_running_loop()
    machine = Machine(tmp_path)
    machine.bridge._now_s = loop.time
    machine.node.gpus[0].read(loop.time())  # its time begins here
    running = asyncio.create_task(machine.bridge.run())
    before_j = machine.driver.read(machine.uuids[0]).energy_j
    await asyncio.to_thread(machine.client, "nvmlDeviceSetGpuLockedClocks(gpu, 345, 900)")
    async with asyncio.timeout(20):
        while machine.driver.read(machine.uuids[1]).clock_mhz != 900:
            await asyncio.sleep(0.01)
    assert machine.driver.read(machine.uuids[0]).energy_j > before_j
    running.cancel()
