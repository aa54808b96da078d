"""The agent as a process: watches, loop, exporter and GPUNode put together and taken apart again."""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import resource_path
from dynawatt.adapters.kubernetes.gpunodes import GpuNodeStore
from dynawatt.adapters.kubernetes.watch import NotSyncedError, Watcher
from dynawatt.adapters.pod_scraper import PodScraper
from dynawatt.agent.actuating import Actuator
from dynawatt.agent.exporting import ExportServer, NodeCollector
from dynawatt.agent.journal import Journal
from dynawatt.agent.loop import Agent
from dynawatt.agent.reporting import StatusReporter
from dynawatt.agent.view import NodeView
from dynawatt.api.group import LEASE_NAME
from dynawatt.api.switch import SWITCH_NAME
from dynawatt.ports import GpuDevice, PodAllocations

# The operator renews every 10 s: a Lease watch that is silent for longer is dead or the operator is.
_LEASE_SILENCE_S: Final = 12.0
_LEASE_MAX_PAUSE_S: Final = 3.0
# Nobody writes the switch for weeks, so a watch that died unseen must end by itself.
_SWITCH_TIMEOUT_S: Final = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """Where this agent runs and what it serves."""

    node: str
    namespace: str
    """Namespace of the operator's Lease."""
    metrics_address: str
    metrics_port: int


class WatchedCluster:
    """The pods of one node, the operator's Lease and the cluster-wide switch, each kept up to date by a watch."""

    def __init__(self, api: ApiClient, *, node: str, namespace: str) -> None:
        self._pods = Watcher(api, resource_path("v1", "pods"), field_selector=f"spec.nodeName={node}")
        self._lease = Watcher(
            api,
            resource_path("coordination.k8s.io/v1", "leases", namespace=namespace),
            field_selector=f"metadata.name={LEASE_NAME}",
            silence_s=_LEASE_SILENCE_S,
            max_pause_s=_LEASE_MAX_PAUSE_S,
        )
        self._switch = Watcher(
            api,
            resource_path("v1", "configmaps", namespace=namespace),
            field_selector=f"metadata.name={SWITCH_NAME}",
            server_timeout_s=_SWITCH_TIMEOUT_S,
            silence_s=_SWITCH_TIMEOUT_S + 2.0,
            max_pause_s=_LEASE_MAX_PAUSE_S,
        )
        self._watchers = (self._pods, self._lease, self._switch)

    def start(self) -> None:
        """Begin to watch."""
        for watcher in self._watchers:
            watcher.start()

    def stop(self) -> None:
        """End all watches."""
        for watcher in self._watchers:
            watcher.stop(timeout_s=1.0)

    def pods(self) -> Iterable[Mapping[str, Any]] | None:
        """Pods of the node; None before they were first listed."""
        try:
            return self._pods.snapshot().values()
        except NotSyncedError:
            return None

    def pods_age_s(self) -> float:
        """Seconds since the API last confirmed the pods."""
        return self._pods.age_s()

    def lease(self) -> tuple[bool, Mapping[str, Any] | None]:
        """Whether anything is known of the Lease, and the Lease if it exists."""
        return _only(self._lease)

    def switch(self) -> tuple[bool, Mapping[str, Any] | None]:
        """Whether anything is known of the switch, and its ConfigMap if it exists."""
        return _only(self._switch)


def _only(watcher: Watcher) -> tuple[bool, Mapping[str, Any] | None]:
    """Of a collection with one object at most: whether it was listed, and the object."""
    try:
        return True, next(iter(watcher.snapshot().values()), None)
    except NotSyncedError:
        return False, None


def run_agent(
    *,
    settings: Settings,
    api: ApiClient,
    devices: Sequence[GpuDevice],
    allocations: PodAllocations,
    journal: Journal,
    stop: threading.Event,
) -> None:
    """Govern until ``stop`` is set; no GPU is locked by us afterwards. Raises OperationError at the start."""
    actuator = Actuator(devices, journal=journal)
    actuator.reset_all("the agent starts")  # first: whatever fails below must not leave behind what is locked
    collector = NodeCollector(settings.node)
    scraper = PodScraper()
    reporter = StatusReporter(GpuNodeStore(api, settings.node))
    cluster = WatchedCluster(api, node=settings.node, namespace=settings.namespace)

    def publish(view: NodeView) -> None:
        collector.view = view
        reporter.submit(view)

    agent = Agent(
        actuator=actuator,
        allocations=allocations,
        pod_metrics=scraper,
        cluster=cluster,
        lease_name=f"{settings.namespace}/{LEASE_NAME}",
        publish=publish,
    )
    with ExitStack() as closing:
        export = ExportServer(
            collector=collector,
            unhealthy=agent.unhealthy,
            address=settings.metrics_address,
            port=settings.metrics_port,
        )
        closing.callback(export.stop)
        export.start()
        closing.callback(cluster.stop)
        cluster.start()
        closing.callback(reporter.stop)
        reporter.start()
        closing.callback(scraper.close)
        _log.info("agent node=%s gpus=%d metrics_port=%d", settings.node, len(devices), export.port)
        agent.run(stop)
    _log.info("agent node=%s stopped", settings.node)
