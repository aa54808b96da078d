import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dynawatt.adapters.kubernetes import mirror as mirror_module
from dynawatt.adapters.kubernetes.mirror import Mirror, gpu_count
from dynawatt.adapters.kubernetes.watch import NotSyncedError

PODS, NODES = "/api/v1/pods", "/api/v1/nodes"
DEPLOYMENTS = "/apis/apps/v1/deployments"
BUDGETS = "/apis/policy/v1/poddisruptionbudgets"
GPUNODES = "/apis/dynawatt.dev/v1alpha1/gpunodes"
HPAS = "/apis/autoscaling/v2/horizontalpodautoscalers"
SCALED_OBJECTS = "/apis/keda.sh/v1alpha1/scaledobjects"
VPAS = "/apis/autoscaling.k8s.io/v1/verticalpodautoscalers"
FOREVER = 30.0


def named(name: str, namespace: str | None = "prod", **metadata: Any) -> dict[str, Any]:
    found = {"name": name, "uid": f"uid-{namespace}-{name}", "resourceVersion": "1", **metadata}
    return {"metadata": found | ({"namespace": namespace} if namespace else {})}


def pod(name: str, gpus: int = 1, *, namespace: str = "prod", of: str = "llama", **metadata: Any) -> dict[str, Any]:
    owners = [{"kind": "ReplicaSet", "name": f"{of}-5d9f", "controller": True}]
    labels = {"app": "llama", "pod-template-hash": "5d9f"}
    container = {"name": "vllm", "image": "vllm", "env": [{"name": "TOKEN", "value": "secret"}]}
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": str(gpus)}}
    return named(name, namespace, labels=labels, ownerReferences=owners, **metadata) | {
        "spec": {"nodeName": "n0", "containers": [container], "volumes": [{"name": "much"}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def node(name: str, **allocatable: str) -> dict[str, Any]:
    status = {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}], "images": ["a"] * 50}
    return named(name, None, labels={"zone": "x"}) | {"spec": {"taints": [{"key": "gpu"}]}, "status": status}


def sibling(name: str, namespace: str = "prod", service: str = "prod/llama", **labels: str) -> dict[str, Any]:
    labels = labels or {"dynawatt.dev/shape": "abcdef"}
    found = named(name, namespace, labels=labels, annotations={"dynawatt.dev/service": service})
    return found | {"spec": {"replicas": 1}}


class Collections:
    """Plays an API server that has these objects, and sends these events; what it lacks does not exist there."""

    def __init__(self) -> None:
        self.items: dict[str, list[Any] | tuple[int, Any]] = {
            path: [] for path in (PODS, NODES, DEPLOYMENTS, BUDGETS, GPUNODES, HPAS)
        }
        self.events: dict[str, list[Any]] = {}

    def __call__(self, handler: Any, body: Any) -> tuple[int, Any]:
        path = handler.path.partition("?")[0]
        found = self.items.get(path, (404, {"message": "the server could not find the requested resource"}))
        if isinstance(found, tuple):
            return found
        if "watch=1" in handler.path:
            return 200, [*self.events.get(path, []), FOREVER]
        return 200, {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": found}


def eventually(check: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def api() -> Collections:
    return Collections()


@pytest.fixture
def look(api: Collections, serve: Any) -> Iterator[Callable[..., Mirror]]:
    """A live copy of what the server has, once there is one."""
    started: list[Mirror] = []

    def start(*, synced: bool = True) -> Mirror:
        mirror = Mirror(serve(api))
        mirror.start()
        started.append(mirror)
        if synced:
            eventually(lambda: mirror.problem() is None)
        return mirror

    yield start
    for mirror in started:
        mirror.stop()


def names(found: list[Any]) -> list[str]:
    return [one["metadata"]["name"] for one in found]


def test_nothing_is_known_before_the_first_list(connect: Any) -> None:
    mirror = Mirror(connect("http://127.0.0.1:9"))
    assert mirror.problem() == f"{DEPLOYMENTS}: no answer"
    with pytest.raises(NotSyncedError):
        mirror.deployment("prod", "llama")
    with pytest.raises(NotSyncedError):
        mirror.pods()
    assert mirror.gpunodes() == []


def test_deployments_and_the_siblings_of_a_service(api: Collections, look: Any) -> None:
    api.items[DEPLOYMENTS] = [
        named("llama") | {"spec": {"replicas": 2}, "status": {"conditions": []}},
        named("llama", "dev") | {"spec": {"replicas": 9}},
        sibling("llama-b"),
        sibling("llama-a"),
        sibling("llama-a", "dev"),
        sibling("other", service="prod/other"),
        sibling("copied-annotation", app="llama"),
        named("no-annotation", labels={"dynawatt.dev/shape": "x"}) | {"spec": {}},
    ]
    mirror = look()
    assert mirror.deployment("prod", "llama")["spec"] == {"replicas": 2}
    assert mirror.deployment("prod", "none") is None
    assert names(mirror.siblings("prod", "prod/llama")) == ["llama-a", "llama-b"]
    assert mirror.siblings("prod", "prod/none") == []


def test_pods_by_the_deployment_that_made_them(api: Collections, look: Any) -> None:
    orphan = pod("orphan")
    del orphan["metadata"]["ownerReferences"]
    api.items[PODS] = [pod("b"), pod("a"), pod("c", of="llama-2"), pod("d", namespace="dev"), orphan]
    mirror = look()
    assert names(mirror.pods_of("prod", "llama")) == ["a", "b"]
    assert names(mirror.pods_of("prod", "llama-2")) == ["c"]
    assert mirror.pods_of("prod", "none") == []
    assert names(mirror.pods("prod")) == ["a", "b", "c", "orphan"]
    assert sorted(names(mirror.pods())) == ["a", "b", "c", "d", "orphan"]
    assert mirror.pods("none") == []


def test_only_pods_with_gpus_or_a_claim_are_kept_and_of_these_little(api: Collections, look: Any) -> None:
    claim = {"dynawatt.dev/clock-claim": "{}"}
    costs = {"controller.kubernetes.io/pod-deletion-cost": "-1", "prometheus.io/scrape": "true"}
    api.items[PODS] = [
        pod("web", gpus=0),
        pod("without-gpus-any-more", gpus=0, annotations=claim),
        pod("vllm", gpus=2, annotations=costs, creationTimestamp="2026-01-01T00:00:00Z", managedFields=["much"]),
    ]
    mirror = look()
    assert names(mirror.pods()) == ["vllm", "without-gpus-any-more"]
    [kept, _] = mirror.pods()
    assert kept == {
        "metadata": {
            "name": "vllm",
            "namespace": "prod",
            "uid": "uid-prod-vllm",
            "resourceVersion": "1",
            "labels": {"app": "llama", "pod-template-hash": "5d9f"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "llama-5d9f", "controller": True}],
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"},
        },
        "spec": {
            "nodeName": "n0",
            "containers": [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "2"}}}],
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def test_only_nodes_with_gpus_are_kept_without_their_images(api: Collections, look: Any) -> None:
    api.items[NODES] = [node("cpu", cpu="4"), node("gpu", **{"nvidia.com/gpu": "8"})]
    [kept] = look().nodes()
    assert kept["metadata"]["name"] == "gpu"
    assert kept["metadata"]["labels"] == {"zone": "x"}
    assert kept["spec"] == {"taints": [{"key": "gpu"}]}
    assert set(kept["status"]) == {"allocatable", "conditions"}


def scaler(name: str, namespace: str = "prod", **spec: Any) -> dict[str, Any]:
    return named(name, namespace) | {"spec": spec}


def test_autoscalers_of_a_deployment(api: Collections, look: Any) -> None:
    here = {"kind": "Deployment", "name": "llama"}
    api.items[HPAS] = [
        scaler("hpa", scaleTargetRef=here),
        scaler("of-another", scaleTargetRef=here | {"name": "other"}),
        scaler("of-a-set", scaleTargetRef={"kind": "StatefulSet", "name": "llama"}),
        scaler("elsewhere", "dev", scaleTargetRef=here),
    ]
    api.items[SCALED_OBJECTS] = [scaler("keda", scaleTargetRef={"name": "llama"})]  # a Deployment by default
    api.items[VPAS] = [
        scaler("vpa", targetRef=here, updatePolicy={"updateMode": "Auto"}),
        scaler("vpa-by-default", targetRef=here),
        scaler("only-recommends", targetRef=here, updatePolicy={"updateMode": "Off"}),
    ]
    mirror = look()
    eventually(lambda: len(mirror.autoscalers("prod", "llama")) == 4)
    assert mirror.autoscalers("prod", "llama") == [
        ("HorizontalPodAutoscaler", "hpa"),
        ("ScaledObject", "keda"),
        ("VerticalPodAutoscaler", "vpa"),
        ("VerticalPodAutoscaler", "vpa-by-default"),
    ]


def test_kinds_that_are_not_installed_have_no_objects_and_are_no_problem(api: Collections, look: Any) -> None:
    del api.items[GPUNODES]
    mirror = look()
    assert mirror.autoscalers("prod", "llama") == []
    assert mirror.gpunodes() == []
    assert mirror.problem() is None


@pytest.mark.parametrize("path", [PODS, NODES, DEPLOYMENTS, BUDGETS, HPAS])
def test_what_is_needed_and_cannot_be_read_is_a_problem(api: Collections, look: Any, path: str) -> None:
    api.items[path] = (403, {"message": "forbidden"})
    mirror = look(synced=False)
    eventually(lambda: mirror.problem() == f"{path}: 403: forbidden")


def test_a_copy_that_heard_nothing_for_long_is_a_problem(look: Any, monkeypatch: Any) -> None:
    mirror = look()
    monkeypatch.setattr(mirror_module, "_SLOWEST_S", -1.0)
    assert mirror.problem() == f"{DEPLOYMENTS}: no answer"


def test_budgets_by_namespace(api: Collections, look: Any) -> None:
    api.items[BUDGETS] = [named("pdb") | {"spec": {}}, named("other", "dev") | {"spec": {}}]
    mirror = look()
    assert names(mirror.budgets("prod")) == ["pdb"]
    assert mirror.budgets("none") == []


def test_what_changes_is_seen_and_what_does_not_is_not_arranged_anew(api: Collections, look: Any) -> None:
    api.items[PODS], api.items[NODES] = [pod("a")], [node("gpu", **{"nvidia.com/gpu": "8"})]
    leaving = pod("a", deletionTimestamp="2026-01-01T00:00:00Z")
    leaving["metadata"]["resourceVersion"] = "3"
    api.events[PODS] = [0.3, {"type": "ADDED", "object": pod("b")}, {"type": "MODIFIED", "object": leaving}]
    mirror = look()
    before, nodes = mirror.pods_of("prod", "llama"), mirror.nodes()
    eventually(lambda: len(mirror.pods_of("prod", "llama")) == 2)
    eventually(lambda: "deletionTimestamp" in mirror.pods_of("prod", "llama")[0]["metadata"])
    assert names(before) == ["a"]
    assert mirror.pods_of("prod", "llama") is mirror.pods_of("prod", "llama")
    assert mirror.nodes() is nodes


@pytest.mark.parametrize(
    ("resources", "gpus"),
    [
        ([{"limits": {"nvidia.com/gpu": "4"}}], 4),
        ([{"requests": {"nvidia.com/gpu": "4"}}], 4),
        ([{"limits": {"nvidia.com/gpu": "4"}, "requests": {"nvidia.com/gpu": "4"}}, {}], 4),
        ([{"limits": {"nvidia.com/gpu": "1"}}, {"limits": {"nvidia.com/gpu": "2", "cpu": "8"}}], 3),
        ([None], 0),
        ([], 0),
    ],
)
def test_gpus_that_a_pod_holds(resources: list[Any], gpus: int) -> None:
    assert gpu_count({"containers": [{"name": "c", "resources": each} for each in resources]}) == gpus
