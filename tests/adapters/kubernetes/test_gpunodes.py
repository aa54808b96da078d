from typing import Any

import pytest

from dynawatt.adapters.kubernetes.gpunodes import GpuNodeStore
from dynawatt.api.gpunode import ClockControl, GPUNodeStatus, GPUStatus
from dynawatt.errors import OperationError

PATH = "/apis/dynawatt.dev/v1alpha1/gpunodes"
STATUS = GPUNodeStatus(gpus=[GPUStatus(uuid="GPU-0", product="H100", clock_control=ClockControl.SUPPORTED)])


class Server:
    """One GPUNode, kept as the API server would."""

    def __init__(self, stored: dict[str, Any] | None) -> None:
        self.stored = stored
        self.requests: list[str] = []
        self.created_by_others = False

    def __call__(self, handler: Any, body: Any) -> tuple[int, Any]:
        self.requests.append(f"{handler.command} {handler.path}")
        if handler.command == "POST":
            assert handler.path == PATH
            assert body == {"apiVersion": "dynawatt.dev/v1alpha1", "kind": "GPUNode", "metadata": {"name": "n0"}}
            self.stored = body
            return (409, {"message": "exists"}) if self.created_by_others else (201, body)
        if self.stored is None:
            return 404, {"message": "not found"}
        if handler.command == "PATCH":
            self.stored = {**self.stored, **body}
        return 200, self.stored


def test_missing_object_is_created_and_written(serve: Any) -> None:
    server = Server(None)
    store = GpuNodeStore(serve(server), "n0")
    assert store.load() == GPUNodeStatus()
    store.save(STATUS)
    assert server.requests == [f"GET {PATH}/n0", f"POST {PATH}", f"PATCH {PATH}/n0/status"]
    assert store.load() == STATUS


def test_object_created_by_somebody_else_meanwhile_is_used(serve: Any) -> None:
    server = Server(None)
    server.created_by_others = True
    assert GpuNodeStore(serve(server), "n0").load() == GPUNodeStatus()


@pytest.mark.parametrize("status", [None, {}, {"gpus": "what?"}])
def test_status_that_says_nothing_is_empty(serve: Any, status: Any) -> None:
    store = GpuNodeStore(serve(Server({"metadata": {"name": "n0"}, "status": status})), "n0")
    assert store.load() == GPUNodeStatus()


def test_missing_kind_is_explained(serve: Any) -> None:
    store = GpuNodeStore(serve(lambda handler, body: (404, {"message": "page not found"})), "n0")
    with pytest.raises(OperationError, match=r"cannot read GPUNode n0: 404: page not found \(is the CRD installed"):
        store.load()
    with pytest.raises(OperationError, match="cannot write GPUNode n0: 404: page not found"):
        store.save(STATUS)
