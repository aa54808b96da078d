"""What the API server has for the agent under test, and the operator that renews its Lease."""

import threading
from datetime import UTC, datetime
from functools import partial
from typing import Any

from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import API_ERRORS, MERGE_PATCH, is_not_found, request_json, resource_path
from dynawatt.api.claims import ClaimTable
from dynawatt.api.group import API_VERSION, DEFAULT_NAMESPACE, GPUNODE_PLURAL, LEASE_NAME

from ...waiting import until

# A node of its own, which pods of other tests are not scheduled to.
NODE = "gpu-node-under-test"
NAMESPACE = "agent-test"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
LEASE_S = 3
LEASES = resource_path("coordination.k8s.io/v1", "leases", namespace=DEFAULT_NAMESPACE)
SWITCHES = resource_path("v1", "configmaps", namespace=DEFAULT_NAMESPACE)
PODS = resource_path("v1", "pods", namespace=NAMESPACE)
GPUNODE = resource_path(API_VERSION, GPUNODE_PLURAL, name=NODE)
TOP_ONLY = ClaimTable(attainment=0.99, tbt=0.1, drain=0.5, prompt=200, kv=400, ttft=False, rows=[(5000, 1, 1, 1)])
"""No row below any ceiling: the governor stays there whatever the load."""
IDLE_OR_BUSY = TOP_ONLY.model_copy(update={"rows": ((900, 1.0, 8000.0, 4),)})
"""900 MHz carry hardly anything."""


eventually = partial(until, within_s=15.0)


def delete(api: ApiClient, path: str) -> None:
    try:
        request_json(api, "DELETE", path, query={"gracePeriodSeconds": "0"})
    except API_ERRORS as error:
        if not is_not_found(error):
            raise


def succeeds(api: ApiClient, path: str) -> bool:
    try:
        request_json(api, "GET", path)
    except API_ERRORS:
        return False
    return True


def governed(api: ApiClient, reason: str) -> Any:
    """The GPUNode, once it says that clocks are governed for this reason."""
    node = request_json(api, "GET", GPUNODE)
    conditions = node.get("status", {}).get("conditions", [])
    reasons = [condition["reason"] for condition in conditions if condition["type"] == "ClocksGoverned"]
    return node if reasons == [reason] else None


class Operator:
    """Renews the Lease as the operator does, until stopped."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        delete(api, f"{LEASES}/{LEASE_NAME}")
        spec = {"holderIdentity": "test", "leaseDurationSeconds": LEASE_S}
        request_json(api, "POST", LEASES, body={"metadata": {"name": LEASE_NAME}, "spec": spec})
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(0.5):
            renewed = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            patch = {"spec": {"renewTime": renewed}}
            request_json(self._api, "PATCH", f"{LEASES}/{LEASE_NAME}", body=patch, content_type=MERGE_PATCH)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
