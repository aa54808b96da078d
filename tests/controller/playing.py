"""The controllers behind a cluster in memory, as far as an operator notices them; and a clock that only they move."""

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dynawatt.adapters.kubernetes.mirror import gpu_count
from dynawatt.controller.inventory import take_inventory
from dynawatt.controller.shapes.leaving import DELETION_COST, is_ready
from dynawatt.controller.shapes.schedulable import pod_needs

from .memory import MemoryCluster, owned_by, owner_of

START_S = 1767225600.0
"""2026-01-01T00:00:00Z."""


@dataclass
class Controllers:
    """Deployments get their pods, pods get nodes and become Ready, stop, and are gone."""

    cluster: MemoryCluster
    startup_s: float = 60.0
    drain_s: float = 20.0
    stuck: set = field(default_factory=set)
    """Deployments, as ``MemoryCluster.replicas`` calls them, whose new pods never become Ready."""
    now_s: float = START_S
    made: int = 0
    known: set = field(default_factory=set)
    deleted: set = field(default_factory=set)

    # As the modules under test take it for their time and datetime modules.

    def time(self):
        return self.now_s

    def monotonic(self):
        return self.now_s

    def now(self, zone=UTC):
        return datetime.fromtimestamp(self.now_s, zone)

    def settle(self):
        """All pods that are wanted are there and Ready."""
        self.reconcile()
        self.now_s += self.startup_s
        self.reconcile()

    def pass_s(self, duration_s=10.0):
        """Time goes by, and the controllers do their work before and after."""
        self.reconcile()
        self.now_s += duration_s
        self.reconcile()

    def reconcile(self):
        cluster = self.cluster
        self.deleted = (self.deleted | self.known) - set(cluster.deployments_)
        self.known = set(cluster.deployments_)
        for name, deployment in cluster.deployments_.items():
            living = [pod for pod in cluster.pods_ if owner_of(pod) == name and not _stops(pod)]
            wanted = deployment["spec"]["replicas"]
            cluster.pods_ += [self._pod(name, deployment) for _ in range(wanted - len(living))]
            for pod in sorted(living, key=_leaves_first)[: max(0, len(living) - wanted)]:
                self._stop(pod)
        for pod in cluster.pods_:
            if owner_of(pod) in self.deleted and not _stops(pod):
                self._stop(pod)
        cluster.pods_ = [pod for pod in cluster.pods_ if not _stops(pod) or pod["gone_s"] > self.now_s]
        for pod in cluster.pods_:
            self._schedule(pod)
            self._start(pod)

    def _pod(self, name, deployment):
        self.made += 1
        template = deployment["spec"]["template"]
        metadata = {
            "namespace": "default",
            "name": f"{cluster_name(name)}-{self.made}",
            "uid": f"uid-{self.made}",
            "creationTimestamp": self._stamp(),
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": owned_by(name),
        }
        spec = {"containers": copy.deepcopy(template["spec"]["containers"]), "nodeName": None}
        return {
            "metadata": metadata,
            "spec": spec,
            "status": {"phase": "Pending", "conditions": []},
            "needs": pod_needs(template["spec"]),
        }

    def _schedule(self, pod):
        """Where least is left over."""
        if pod["spec"]["nodeName"] or _stops(pod):
            return
        found = take_inventory(self.cluster.nodes_, self.cluster.pods_)
        gpus = gpu_count(pod["spec"])
        judged = zip(found.nodes, found.obstacles(pod["needs"]), strict=True)
        fitting = [node for node, why in judged if node.free >= gpus and not why]
        if fitting:
            pod["spec"]["nodeName"] = min(fitting, key=lambda node: node.free).name
            pod["status"]["phase"] = "Running"
            pod["ready_s"] = self.now_s + self.startup_s

    def _start(self, pod):
        if pod.get("ready_s", float("inf")) > self.now_s or is_ready(pod) or _stops(pod):
            return
        if self.cluster.short(owner_of(pod)) not in self.stuck:
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": self._stamp()}
            pod["status"]["conditions"] = [ready]

    def _stop(self, pod):
        pod["metadata"]["deletionTimestamp"] = self._stamp()
        pod["gone_s"] = self.now_s + (self.drain_s if is_ready(pod) else 0.0)

    def _stamp(self):
        return self.now().isoformat().replace("+00:00", "Z")


def cluster_name(name):
    return name.removeprefix("llama-") or name


def _stops(pod):
    return "deletionTimestamp" in pod["metadata"]


def _leaves_first(pod):
    """As Kubernetes chooses."""
    cost = int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, 0))
    return bool(pod["spec"]["nodeName"]), is_ready(pod), cost, pod["metadata"]["creationTimestamp"]
