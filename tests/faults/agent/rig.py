"""One GPU node with all that an agent meets there: driver, kubelet, API server, vLLM pods."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path

from kubernetes.client import ApiClient

from dynawatt.api.claims import ClaimTable
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import HeldDevice, PodKey
from dynawatt.sandbox.driver.control import SimulatedDriver
from dynawatt.sandbox.driver.models import GpuModel
from dynawatt.sandbox.nodesim.pod_resources import PodResourcesServer

from .cluster import FLOOR_MHZ, TOP_ONLY, Cluster, written_claim
from .ledger import until
from .pages import VllmPage
from .process import AgentProcess, run
from .proxy import Proxy, proxied

_NUMBERS = count()

LOCK = "nvmlDeviceSetGpuLockedClocks"
RESET = "nvmlDeviceResetGpuLockedClocks"
APPLICATIONS = "nvmlDeviceSetApplicationsClocks"
POWER = "nvmlDeviceGetPowerUsage"

# What `nvidia-smi --lock-gpu-clocks` does, through the same library.
_LOCK_BY_HAND = """
import sys, pynvml
pynvml.nvmlInit()
device = pynvml.nvmlDeviceGetHandleByUUID(sys.argv[1])
pynvml.nvmlDeviceSetGpuLockedClocks(device, *map(int, sys.argv[2:]))
pynvml.nvmlShutdown()
"""


class Rig:
    """The node, its agents, and the truth about its GPUs, which are counted from 0."""

    def __init__(
        self,
        api: ApiClient,
        *,
        kubeconfig: Path,
        library: Path,
        directory: Path,
        gpu_count: int = 8,
        behind_proxy: bool = False,
    ) -> None:
        number = next(_NUMBERS)
        self.uuids = [f"GPU-{number:04d}-{index}" for index in range(gpu_count)]
        self.gpus = range(gpu_count)
        self.driver = SimulatedDriver.create(
            directory / "node.gpus", [GpuModel.of(H100_SXM, uuid) for uuid in self.uuids]
        )
        self.held: Mapping[str, Sequence[HeldDevice]] = {}
        """What the kubelet lists, by the pod's name; replaced, never changed."""
        self.kubelet = PodResourcesServer(
            directory / "kubelet.sock", lambda: [device for devices in self.held.values() for device in devices]
        )
        self.cluster = Cluster(api, f"faults-{number}")
        self.journal = directory / "journal"
        self.proxy: Proxy | None = None
        """Between its agents and the API server."""
        self._kubeconfig = kubeconfig
        if behind_proxy:
            self.proxy, self._kubeconfig = proxied(kubeconfig, directory / "kubeconfig")
        self._environment = self.driver.environment(library)
        self._directory = directory
        self._closed = False
        self._agents: list[AgentProcess] = []
        self._pages: list[VllmPage] = []
        self.kubelet.start()

    def close(self) -> None:
        """End everything, whatever state it is in; once."""
        if self._closed:
            return
        self._closed = True
        self.driver.restore()
        for agent in self._agents:
            if agent.process.poll() is None:
                agent.kill()
        for page in self._pages:
            page.close()
        if self.proxy is not None:
            self.proxy.close()
        self.kubelet.stop()
        self.cluster.remove()
        self.driver.close()

    # --- agents ---

    @property
    def options(self) -> dict[str, object]:
        """Options of an agent on this node."""
        return {
            "node-name": self.cluster.name,
            "namespace": self.cluster.name,
            "kubeconfig": self._kubeconfig,
            "pod-resources-socket": self._directory / "kubelet.sock",
            "journal-dir": self.journal,
        }

    @property
    def log(self) -> Path:
        """Of all agents of this node."""
        return self._directory / "agent.log"

    @property
    def journalled(self) -> list[str]:
        """The GPUs that the journal names."""
        uuids: list[str] = json.loads((self.journal / "clocks.json").read_text())["gpus"]
        return uuids

    def spawn(self) -> AgentProcess:
        """An agent that has just been started."""
        self.agent = AgentProcess(self.options, environment=self._environment, log=self.log)
        self._agents.append(self.agent)
        return self.agent

    def start(self) -> AgentProcess:
        """An agent whose first cycle has ended."""
        agent = self.spawn()
        until(agent.is_ready)
        return agent

    def run(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        """A command below ``dynawatt agent`` that ends by itself."""
        return run(*words, options=options, environment=self._environment)

    # --- pods ---

    def place(
        self,
        name: str,
        *gpus: int,
        ceiling_mhz: int | None = None,
        table: ClaimTable = TOP_ONLY,
        claim: str | None = None,
        ids: Sequence[str] = (),
        dynamic: bool = False,
    ) -> str:
        """A pod that runs and holds GPUs (by number) or anything else (by id); returns its IP."""
        text = claim if ceiling_mhz is None else self.claim(name, ceiling_mhz, table)
        self.hold(name, *gpus, ids=ids, dynamic=dynamic)
        return self.cluster.create_pod(name, text)

    def hold(self, name: str, *gpus: int, ids: Sequence[str] = (), dynamic: bool = False) -> None:
        """Let the kubelet hand devices out, by a resource claim if ``dynamic``."""
        pod = PodKey(self.cluster.name, name)
        resource = "gpu.nvidia.com" if dynamic else "nvidia.com/gpu"
        device_ids = (*(self.uuids[gpu] for gpu in gpus), *ids)
        self.held = {**self.held, name: [HeldDevice(pod, resource, each, dynamic) for each in device_ids]}

    def release(self, name: str) -> None:
        """Let the kubelet take them back."""
        self.held = {pod: devices for pod, devices in self.held.items() if pod != name}

    def remove(self, name: str) -> None:
        """Delete a pod; the kubelet frees its GPUs."""
        self.cluster.delete_pod(name)
        self.release(name)

    def claim(self, name: str, ceiling_mhz: int, table: ClaimTable = TOP_ONLY) -> str:
        """The operator's claim for a pod, as text."""
        return written_claim(self.cluster.name, name, ceiling_mhz, table)

    def reclaim(self, name: str, ceiling_mhz: int) -> None:
        """Let the operator rewrite a claim."""
        self.cluster.annotate(name, self.claim(name, ceiling_mhz))

    def serve(self, address: str) -> VllmPage:
        """Let a pod serve metrics."""
        self._pages.append(VllmPage(address))
        return self._pages[-1]

    # --- the truth ---

    def locked_mhz(self, gpu: int) -> tuple[int, int] | None:
        """What the hardware is locked to."""
        return self.driver.locked_mhz(self.uuids[gpu])

    def at(self, ceiling_mhz: int, *gpus: int) -> bool:
        """Whether all these are governed below this clock."""
        return all(self.locked_mhz(gpu) == (FLOOR_MHZ, ceiling_mhz) for gpu in gpus)

    def at_default(self, *gpus: int) -> bool:
        """Whether none of these is locked in any way."""
        return all(
            self.driver.locked_mhz(self.uuids[gpu]) is None and self.driver.application_mhz(self.uuids[gpu]) is None
            for gpu in gpus
        )

    def all_default(self) -> bool:
        """Whether nothing is locked on this node."""
        return self.at_default(*self.gpus)

    def commands(self, gpu: int) -> int:
        """How often its clocks were set or reset."""
        return self.driver.commands(self.uuids[gpu])

    def fail(self, function: str, *gpus: int, **fault: object) -> None:
        """Let calls on these GPUs go wrong; see SimulatedDriver.fail."""
        for gpu in gpus:
            self.driver.fail(function, uuid=self.uuids[gpu], **fault)  # type: ignore[arg-type]

    def lock_by_hand(self, gpu: int, clock_mhz: int) -> None:
        """What an administrator may do with nvidia-smi."""
        subprocess.run(
            [sys.executable, "-c", _LOCK_BY_HAND, self.uuids[gpu], str(clock_mhz), str(clock_mhz)],
            env={**self._environment},
            check=True,
            timeout=30,
        )
