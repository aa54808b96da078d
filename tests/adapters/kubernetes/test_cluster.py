import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from dynawatt.adapters.kubernetes.cluster import Cluster

DEPLOYMENT = {
    "metadata": {"namespace": "prod", "name": "llama", "uid": "u1", "resourceVersion": "7"},
    "spec": {"replicas": 2},
}
POD = {"metadata": {"namespace": "prod", "name": "a", "uid": "p1", "resourceVersion": "3"}}
PATH = "/apis/apps/v1/namespaces/prod/deployments"


class Api:
    """Answers every request with one status, and keeps what was asked for."""

    def __init__(self) -> None:
        self.status, self.answer = 200, {}  # type: tuple[int, Any]
        self.requests: list[tuple[str, str, Any]] = []
        self.types: list[str] = []
        self.told: list[tuple[str, str]] = []

    def __call__(self, handler: Any, body: Any) -> tuple[int, Any]:
        self.requests.append((handler.command, handler.path, body))
        self.types.append(handler.headers["Content-Type"])
        return self.status, self.answer


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def cluster(api: Api, serve: Any) -> Cluster:
    return Cluster(serve(api), on_write=lambda verb, resource: api.told.append((verb, resource)))


WRITES: dict[str, Callable[[Cluster], bool]] = {
    "scale": lambda cluster: cluster.scale(DEPLOYMENT, 5),
    "create": lambda cluster: cluster.create_deployment(DEPLOYMENT),
    "replace": lambda cluster: cluster.replace_deployment(DEPLOYMENT),
    "delete": lambda cluster: cluster.delete_deployment(DEPLOYMENT),
    "annotate": lambda cluster: cluster.annotate_pod(POD, {"a": "1", "b": None}),
}
SCALE = {
    "apiVersion": "autoscaling/v1",
    "kind": "Scale",
    "metadata": {"namespace": "prod", "name": "llama", "resourceVersion": "7"},
    "spec": {"replicas": 5},
}
DELETION = {"preconditions": {"uid": "u1", "resourceVersion": "7"}, "propagationPolicy": "Background"}
ANNOTATIONS = {"metadata": {"uid": "p1", "annotations": {"a": "1", "b": None}}}


@pytest.mark.parametrize(
    ("write", "request_", "told"),
    [
        ("scale", ("PUT", f"{PATH}/llama/scale?fieldManager=dynawatt", SCALE), ("update", "deployments/scale")),
        ("create", ("POST", f"{PATH}?fieldManager=dynawatt", DEPLOYMENT), ("create", "deployments")),
        ("replace", ("PUT", f"{PATH}/llama?fieldManager=dynawatt", DEPLOYMENT), ("update", "deployments")),
        ("delete", ("DELETE", f"{PATH}/llama", DELETION), ("delete", "deployments")),
        (
            "annotate",
            ("PATCH", "/api/v1/namespaces/prod/pods/a?fieldManager=dynawatt", ANNOTATIONS),
            ("patch", "pods"),
        ),
    ],
)
def test_writes_name_the_version_they_were_made_from(
    cluster: Cluster, api: Api, write: str, request_: Any, told: Any
) -> None:
    assert WRITES[write](cluster) is True
    assert json.loads(json.dumps(api.requests)) == [list(request_)]
    assert api.told == [told]
    assert api.types == ["application/merge-patch+json" if write == "annotate" else "application/json"]


@pytest.mark.parametrize("write", list(WRITES))
def test_what_changed_meanwhile_is_left_as_it_is(cluster: Cluster, api: Api, write: str) -> None:
    api.status = 409
    assert WRITES[write](cluster) is False
    assert api.told == []


@pytest.mark.parametrize("write", ["scale", "replace", "delete", "annotate"])
def test_what_is_gone_need_not_be_changed(cluster: Cluster, api: Api, write: str) -> None:
    api.status = 404
    assert WRITES[write](cluster) is False


@pytest.mark.parametrize(("write", "status"), [("scale", 403), ("create", 422), ("delete", 403), ("annotate", 500)])
def test_what_the_api_refuses_is_raised(cluster: Cluster, api: Api, write: str, status: int) -> None:
    api.status = status
    with pytest.raises(ApiException) as caught:
        WRITES[write](cluster)
    assert caught.value.status == status


@pytest.mark.parametrize(("spec", "modes"), [({"accessModes": ["ReadWriteMany"]}, ["ReadWriteMany"]), ({}, [])])
def test_access_modes(cluster: Cluster, api: Api, spec: Any, modes: list[str]) -> None:
    api.answer = {"spec": spec}
    assert cluster.access_modes("prod", "weights") == modes
    assert api.requests[0][:2] == ("GET", "/api/v1/namespaces/prod/persistentvolumeclaims/weights")


def test_what_does_not_exist_is_none(cluster: Cluster, api: Api) -> None:
    api.status = 404
    assert cluster.access_modes("prod", "weights") is None
    assert cluster.lease("prod", "lease") is None
    assert cluster.config_map("prod", "switch") is None


@pytest.mark.parametrize(
    ("version", "request_", "told"),
    [
        ({}, ("POST", "/apis/coordination.k8s.io/v1/namespaces/prod/leases"), ("create", "leases")),
        (
            {"resourceVersion": "4"},
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/prod/leases/lease"),
            ("update", "leases"),
        ),
    ],
)
def test_a_lease_is_created_or_updated_unless_somebody_was_first(
    cluster: Cluster, api: Api, version: Any, request_: Any, told: Any
) -> None:
    lease = {"metadata": {"namespace": "prod", "name": "lease", **version}}
    api.answer = lease
    assert cluster.write_lease(lease) == lease
    assert api.requests[0][:2] == request_
    assert api.told == [told]
    api.status = 409
    assert cluster.write_lease(lease) is None
    api.status = 500
    with pytest.raises(ApiException):
        cluster.write_lease(lease)
