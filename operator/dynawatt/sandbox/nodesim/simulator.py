"""Keeps simulated nodes and pods as the Kubernetes API says they are.

Level based: whatever changed, all nodes and pods are compared with what runs
here, so a lost or doubled event does no harm. The watches live in threads of
their own; everything else happens on the event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import KubernetesObject, resource_path
from dynawatt.adapters.kubernetes.watch import EventType, Watcher
from dynawatt.adapters.vllm_args import VllmPodError, find_vllm_container
from dynawatt.perfmodel.gpus import GPUS
from dynawatt.ports import PodKey
from dynawatt.sandbox.driver.layout import MAX_GPUS
from dynawatt.sandbox.nodesim.images import is_own_pod
from dynawatt.sandbox.nodesim.kubelet import PodRunner, PodWriter
from dynawatt.sandbox.nodesim.nodes import GPU_LABEL, GPU_RESOURCE, SimulatedNode, requested_gpus
from dynawatt.sandbox.nodesim.process_pod import Machine, ProcessPod
from dynawatt.sandbox.nodesim.state import AllocationState

_SYNC_POLL_S: Final = 0.02

_log = logging.getLogger(__name__)


class NodeService(Protocol):
    """Something that every node has: a driver, a kubelet's API."""

    def follow(self, nodes: Mapping[str, SimulatedNode]) -> None:
        """Serve exactly these nodes. Called on the event loop's thread whenever they may have changed."""
        ...


class NodeSimulator:
    """All simulated nodes and the pods on them; ``now_s`` is the event loop's clock."""

    def __init__(
        self,
        *,
        writer: PodWriter,
        state: AllocationState,
        now_s: Callable[[], float],
        services: Sequence[NodeService] = (),
        machine: Machine | None = None,
    ) -> None:
        """What it works with; without a ``machine``, pods of dynawatt's own are not run."""
        self.nodes: Final[dict[str, SimulatedNode]] = {}
        self._services = services
        self._machine = machine
        self._runners: dict[str, PodRunner | ProcessPod] = {}
        self._writer = writer
        self._state = state
        self._now_s = now_s

    async def reconcile(self, nodes: Iterable[KubernetesObject], pods: Mapping[str, KubernetesObject]) -> None:
        """Make nodes, allocations and servers match these objects (pods by uid)."""
        self._reconcile_nodes(nodes)
        vanished = [uid for uid in self._runners if uid not in pods]
        await asyncio.gather(*(self._runners.pop(uid).gone() for uid in vanished))
        placed = {uid: pod for uid, pod in pods.items() if pod["spec"].get("nodeName") in self.nodes}
        for node in self.nodes.values():
            mine = {uid: pod for uid, pod in placed.items() if pod["spec"]["nodeName"] == node.name}
            if node.allocate({uid: _demand(pod) for uid, pod in mine.items() if not _is_over(pod)}, self._now_s()):
                self._state.save(self.nodes.values())
        for uid, pod in placed.items():
            if uid in self._runners:
                self._runners[uid].update(pod)
            elif is_own_pod(pod["spec"]):
                if self._machine is not None and not _is_over(pod):
                    self._runners[uid] = ProcessPod(pod, self._machine)
            elif _is_vllm(pod) and not _is_over(pod):
                self._start(uid, pod)

    async def stop(self) -> None:
        """End all servers, leaving the Kubernetes objects alone."""
        await asyncio.gather(*(runner.gone() for runner in self._runners.values()))
        self._runners.clear()

    def _reconcile_nodes(self, objects: Iterable[KubernetesObject]) -> None:
        wanted = {node["metadata"]["name"]: node for node in objects}
        for name in self.nodes.keys() - wanted.keys():
            del self.nodes[name]
        for name, node in wanted.items():
            gpu_name = node["metadata"]["labels"][GPU_LABEL]
            gpu_count = int(node.get("status", {}).get("capacity", {}).get(GPU_RESOURCE, 0))
            if name in self.nodes or not gpu_count:
                continue
            if gpu_name not in GPUS:
                _log.error("node=%s label %s=%s: must be one of %s", name, GPU_LABEL, gpu_name, ", ".join(GPUS))
                continue
            if gpu_count > MAX_GPUS:
                _log.error("node=%s capacity %s=%d: must be at most %d", name, GPU_RESOURCE, gpu_count, MAX_GPUS)
                continue
            now_s = self._now_s()
            self.nodes[name] = SimulatedNode.create(name, spec=GPUS[gpu_name], gpu_count=gpu_count, now_s=now_s)
            self._state.restore(self.nodes[name], now_s)
        for service in self._services:
            service.follow(self.nodes)

    def _start(self, uid: str, pod: KubernetesObject) -> None:
        allocation = self.nodes[pod["spec"]["nodeName"]].allocations.get(uid)
        if allocation is None and requested_gpus(pod["spec"]):
            return  # its GPUs are still being freed
        gpus = allocation.gpus if allocation else ()
        self._runners[uid] = PodRunner(pod, gpus=gpus, writer=self._writer)


class ClusterFollower:
    """Watches nodes and pods and reconciles the simulator whenever either changes."""

    def __init__(self, api: ApiClient, simulator: NodeSimulator) -> None:
        loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._simulator = simulator
        self.is_synced = False

        def notify(_kind: EventType, _item: KubernetesObject) -> None:
            loop.call_soon_threadsafe(self._changed.set)

        self._nodes = Watcher(api, resource_path("v1", "nodes"), label_selector=GPU_LABEL, on_event=notify)
        self._pods = Watcher(api, resource_path("v1", "pods"), on_event=notify)

    async def run(self) -> None:
        """Follow until cancelled."""
        watchers = (self._nodes.start(), self._pods.start())
        try:
            while True:
                self._changed.clear()
                if all(watcher.synced.is_set() for watcher in watchers):
                    await self._simulator.reconcile(self._nodes.snapshot().values(), self._pods.snapshot())
                    self.is_synced = True
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if self.is_synced else _SYNC_POLL_S):
                        await self._changed.wait()
        finally:
            for watcher in watchers:
                await asyncio.to_thread(watcher.stop)


def _is_vllm(pod: KubernetesObject) -> bool:
    try:
        find_vllm_container(pod["spec"])
    except VllmPodError as error:
        return error.reason != "NoVllmContainer"
    return True


def _is_over(pod: KubernetesObject) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _demand(pod: KubernetesObject) -> tuple[PodKey, int]:
    metadata = pod["metadata"]
    return PodKey(metadata["namespace"], metadata["name"]), requested_gpus(pod["spec"])
