"""The part of the real API server that one agent looks at: its node and pods, the Lease and the switch."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import API_ERRORS, MERGE_PATCH, is_not_found, request_json, resource_path
from dynawatt.api.claims import ClaimTable, ClockClaim
from dynawatt.api.group import API_VERSION, CLAIM_ANNOTATION, GPUNODE_PLURAL, LEASE_NAME
from dynawatt.api.switch import SWITCH_NAME

from .ledger import until

LEASE_S = 3
FLOOR_MHZ = 345
METRICS_PORT = 8000
_FINALIZER = "dynawatt.dev/under-test"
"""KWOK deletes by name, and would take a successor of the same name along; it leaves pods with a finalizer alone."""

TOP_ONLY = ClaimTable(attainment=0.99, tbt=0.1, drain=0.5, prompt=200, kv=400, ttft=False, rows=((5000, 1, 1, 1),))
"""No row below any ceiling: the governor stays there whatever the load."""


def written_claim(namespace: str, pod: str, ceiling_mhz: int, table: ClaimTable = TOP_ONLY) -> str:
    """The annotation that the operator would write."""
    return ClockClaim(
        floor_megahertz=FLOOR_MHZ,
        ceiling_megahertz=ceiling_mhz,
        lease=f"{namespace}/{LEASE_NAME}",
        service=f"{namespace}/{pod}",
        metrics_port=METRICS_PORT,
        table=table,
    ).to_annotation()


class Cluster:
    """A node of its own, and a namespace of its own for everything else."""

    def __init__(self, api: ApiClient, name: str) -> None:
        self.name = name
        self._api = api
        self._alive: set[str] = set()
        self._pods = resource_path("v1", "pods", namespace=name)
        self._switch = resource_path("v1", "configmaps", namespace=name)
        self._node = resource_path("v1", "nodes", name=name)
        self._namespace = resource_path("v1", "namespaces", name=name)
        self._gpunode = resource_path(API_VERSION, GPUNODE_PLURAL, name=name)
        # KWOK plays its kubelet; the sandbox's simulated GPUs leave nodes without their label alone.
        node = {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "nvidia.com/gpu.count": "8"}},
            "spec": {"unschedulable": True},
        }
        request_json(api, "POST", resource_path("v1", "nodes"), body=node)
        request_json(api, "POST", resource_path("v1", "namespaces"), body={"metadata": {"name": name}})
        account = resource_path("v1", "serviceaccounts", namespace=name, name="default")
        until(lambda: self._get(account))
        self.operator = Operator(api, name)

    def remove(self) -> None:
        """Leave nothing behind."""
        self.operator.stop()
        for pod in tuple(self._alive):
            self.delete_pod(pod)
        for path in (self._gpunode, self._node, self._namespace):
            self._delete(path)

    def create_pod(self, name: str, claim: str | None) -> str:
        """A vLLM pod that runs; returns its IP."""
        container = {"name": "vllm", "image": "vllm/vllm-openai:v0.32.0", "args": ["--model=any"]}
        annotations = {} if claim is None else {CLAIM_ANNOTATION: claim}
        body = {
            "metadata": {"name": name, "annotations": annotations, "finalizers": [_FINALIZER]},
            "spec": {"nodeName": self.name, "containers": [container]},
        }
        request_json(self._api, "POST", self._pods, body=body)
        self._alive.add(name)
        until(lambda: self._status(name).get("phase") == "Running")
        address: str = self._status(name)["podIP"]
        return address

    def annotate(self, pod: str, claim: str | None) -> None:
        """Set or take away its claim."""
        self._patch(pod, {"annotations": {CLAIM_ANNOTATION: claim}})

    def delete_pod(self, name: str) -> None:
        """At once, as a kubelet ends a pod; nothing when it is gone."""
        if name in self._alive:
            self._delete(f"{self._pods}/{name}")
            self._patch(name, {"finalizers": None})
            self._alive.discard(name)

    def is_ready(self, pod: str) -> bool:
        """Whether the API calls it Ready."""
        conditions = self._status(pod).get("conditions", [])
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def switch(self, enabled: str | None) -> None:
        """Write the ConfigMap of the switch, or take it away."""
        self._delete(f"{self._switch}/{SWITCH_NAME}")
        if enabled is not None:
            body = {"metadata": {"name": SWITCH_NAME}, "data": {"enabled": enabled}}
            request_json(self._api, "POST", self._switch, body=body)

    def reported(self) -> dict[str, Any]:
        """Status of the GPUNode that the agent writes."""
        return (self._get(self._gpunode) or {}).get("status", {})

    def condition(self, type_: str = "ClocksGoverned") -> tuple[str, str]:
        """Status and reason of a condition of the GPUNode."""
        found = [c for c in self.reported().get("conditions", []) if c["type"] == type_]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def energy_only(self) -> dict[str, str]:
        """Why GPUs are left alone, by UUID."""
        gpus = self.reported().get("gpus", [])
        return {gpu["uuid"]: gpu["energyOnly"]["reason"] for gpu in gpus if "energyOnly" in gpu}

    def _patch(self, pod: str, metadata: dict[str, Any]) -> None:
        path = f"{self._pods}/{pod}"
        request_json(self._api, "PATCH", path, body={"metadata": metadata}, content_type=MERGE_PATCH)

    def _status(self, pod: str) -> dict[str, Any]:
        return (self._get(f"{self._pods}/{pod}") or {}).get("status", {})

    def _get(self, path: str) -> dict[str, Any] | None:
        try:
            return request_json(self._api, "GET", path)
        except API_ERRORS as error:
            if is_not_found(error):
                return None
            raise

    def _delete(self, path: str) -> None:
        try:
            request_json(self._api, "DELETE", path, query={"gracePeriodSeconds": "0"})
        except API_ERRORS as error:
            if not is_not_found(error):
                raise


class Operator:
    """The operator as agents see it: somebody who renews a Lease. ``pause`` and ``resume`` it at will."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self.wall_clock_error = timedelta()
        """By how much the clock of its machine is wrong."""
        self._api = api
        self._leases = resource_path("coordination.k8s.io/v1", "leases", namespace=namespace)
        self._lease = f"{self._leases}/{LEASE_NAME}"
        self._renewing = threading.Event()
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        self._create()
        self._renewing.set()
        self._thread = threading.Thread(target=self._run, name=f"operator {namespace}")
        self._thread.start()

    def pause(self) -> None:
        """Renew no more."""
        with self._turn:  # the last one may be under way
            self._renewing.clear()

    def resume(self) -> None:
        """Go on."""
        self._renewing.set()

    def delete_lease(self) -> None:
        """As somebody might by hand."""
        request_json(self._api, "DELETE", self._lease)

    def create_lease(self) -> None:
        """As the operator does when there is none."""
        self._create()

    def stop(self) -> None:
        """For good."""
        self._stopping.set()
        self._thread.join()

    def _create(self) -> None:
        spec = {"holderIdentity": "test", "leaseDurationSeconds": LEASE_S}
        request_json(self._api, "POST", self._leases, body={"metadata": {"name": LEASE_NAME}, "spec": spec})

    def _run(self) -> None:
        while not self._stopping.wait(0.4):
            with self._turn:
                if self._renewing.is_set():
                    self._renew()

    def _renew(self) -> None:
        now = datetime.now(UTC) + self.wall_clock_error
        patch = {"spec": {"renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}}
        try:
            request_json(self._api, "PATCH", self._lease, body=patch, content_type=MERGE_PATCH)
        except API_ERRORS as error:
            if not is_not_found(error):
                raise
