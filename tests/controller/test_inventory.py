import pytest

from dynawatt.api.gpunode import GPUNodeStatus
from dynawatt.controller.inventory import Inventories, take_inventory
from dynawatt.controller.shapes.gpus import PRODUCT_LABEL
from dynawatt.controller.shapes.schedulable import PodNeeds, pod_needs
from dynawatt.controller.target import Workload

from .conftest import make_deployment, make_pod

H100 = "NVIDIA-H100-80GB-HBM3"
GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
ANY = PodNeeds()


def node(name, gpus=8, *, product=H100, ready="True", cordoned=False, taints=(), **labels):
    return {
        "metadata": {"name": name, "labels": {PRODUCT_LABEL: product, **labels}},
        "spec": {"taints": list(taints)} | ({"unschedulable": True} if cordoned else {}),
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus)},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(node_name, gpus, *, phase="Running", **metadata):
    containers = [{"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}]
    return {"metadata": metadata, "spec": {"nodeName": node_name, "containers": containers}, "status": {"phase": phase}}


def test_what_pods_hold_is_not_free():
    found = take_inventory([node("a"), node("b")], [pod("a", 4), pod("a", 2), pod(None, 8), pod("b", 8)])
    assert found.free(H100) == {"a": 2, "b": 0}
    assert found.largest(H100, ANY) == 8


def test_a_stopping_pod_still_holds_its_gpus_and_an_ended_one_none():
    pods = [pod("a", 4, deletionTimestamp="2026-01-01T00:00:00Z"), pod("a", 2, phase="Failed")]
    assert take_inventory([node("a")], pods).free(H100) == {"a": 4}


@pytest.mark.parametrize(
    ("trouble", "why"),
    [({"ready": "False"}, "not Ready"), ({"ready": "Unknown"}, "not Ready"), ({"cordoned": True}, "cordoned")],
)
def test_a_node_that_takes_no_pods_has_nothing_free_but_keeps_its_product(trouble, why):
    found = take_inventory([node("a", **trouble)], [])
    assert found.free(H100) == {}
    assert (found.usable(H100, ANY), found.largest(H100, ANY)) == (frozenset(), 0)
    assert found.obstacles(ANY) == [why]
    assert found.products == {"a": H100}


def test_only_nodes_of_the_product_that_the_selector_admits_are_usable():
    nodes = [node("a", 4, zone="x"), node("b", zone="y"), node("c", product="NVIDIA-A100-SXM4-80GB", zone="x")]
    found = take_inventory(nodes, [])
    in_x, in_z = (pod_needs({"nodeSelector": {"zone": zone}}) for zone in "xz")
    assert (found.usable(H100, in_x), found.largest(H100, in_x)) == ({"a"}, 4)
    assert found.usable("NVIDIA-A100-SXM4-80GB", ANY) == {"c"}
    assert found.usable(H100, in_z) == frozenset()
    assert found.free(H100) == {"a": 4, "b": 8}


def test_more_held_than_there_is_leaves_nothing():
    assert take_inventory([node("a", 4)], [pod("a", 8)]).free(H100) == {"a": 0}


@pytest.mark.parametrize(("runs_on", "usable"), [("a", {"a", "b"}), ("b", {"b"}), (None, {"b"})])
def test_where_pods_run_in_spite_of_the_gpus_own_taint_a_toleration_was_added_to_them(runs_on, usable):
    """By the admission plug-in ExtendedResourceToleration, which no template shows."""
    found = take_inventory([node("a", taints=[GPU_TAINT]), node("b")], [])
    needs = found.needs([Workload(make_deployment(1), [make_pod(node=runs_on)])])
    assert found.usable(H100, needs) == usable


def test_a_taint_that_came_later_is_no_sign_of_a_toleration():
    taint = {"key": "maintenance", "effect": "NoSchedule"}
    found = take_inventory([node("a", taints=[taint]), node("b")], [])
    assert found.usable(H100, found.needs([Workload(make_deployment(1), [make_pod(node="a")])])) == {"b"}


def test_what_did_not_change_is_not_counted_again():
    inventories, nodes, pods = Inventories(), [node("a")], [pod("a", 4)]
    found = inventories.of(nodes, pods)
    assert inventories.of(nodes, pods) is found
    assert inventories.of([node("a"), node("b")], pods).free(H100) == {"a": 4, "b": 8}
    assert inventories.of([node("a")], [pod("a", 2)]).free(H100) == {"a": 6}


def test_who_may_run_where_is_found_anew_only_when_nodes_really_changed():
    inventories, pods = Inventories(), []
    first = inventories.of([node("a")], pods).obstacles(ANY)
    assert inventories.of([node("a")], pods).obstacles(ANY) is first
    assert inventories.of([node("a", cordoned=True)], pods).obstacles(ANY) == ["cordoned"]


def gpunode(name, product):
    gpu = {"uuid": "GPU-1", "product": product, "clockControl": "Unsupported"}
    return {"metadata": {"name": name}, "status": {"gpus": [gpu]}}


def test_reports_of_agents_are_read_and_what_cannot_be_read_tells_nothing():
    inventories, nodes, pods = Inventories(), [node("a")], []
    known, unknown = gpunode("a", "H100"), {"metadata": {"name": "b"}, "status": {"gpus": "many"}}
    reports = inventories.of(nodes, pods, [known, unknown]).reports
    assert reports["a"].gpus[0].product == "H100"
    assert reports["b"] == GPUNodeStatus()
    again = inventories.of(nodes, pods, [known, gpunode("b", "A100")]).reports
    assert again["a"] is reports["a"]
    assert again["b"].gpus[0].product == "A100"
    assert inventories.of(nodes, pods).reports == {}
