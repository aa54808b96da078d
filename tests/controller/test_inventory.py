import pytest

from dynawatt.controller.inventory import PRODUCT_LABEL, Inventories, take_inventory

H100 = "NVIDIA-H100-80GB-HBM3"


def node(name, gpus=8, *, product=H100, ready="True", cordoned=False, **labels):
    return {
        "metadata": {"name": name, "labels": {PRODUCT_LABEL: product, **labels}},
        "spec": {"unschedulable": True} if cordoned else {},
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
    assert found.free(H100, {}) == [2, 0]
    assert found.largest(H100, {}) == 8


def test_a_stopping_pod_still_holds_its_gpus_and_an_ended_one_none():
    pods = [pod("a", 4, deletionTimestamp="2026-01-01T00:00:00Z"), pod("a", 2, phase="Failed")]
    assert take_inventory([node("a")], pods).free(H100, {}) == [4]


@pytest.mark.parametrize("trouble", [{"ready": "False"}, {"ready": "Unknown"}, {"cordoned": True}])
def test_a_node_that_takes_no_pods_has_nothing_free_but_keeps_its_product(trouble):
    found = take_inventory([node("a", **trouble)], [])
    assert found.free(H100, {}) == []
    assert found.largest(H100, {}) == 0
    assert found.products == {"a": H100}


def test_only_nodes_of_the_product_that_the_selector_admits_count():
    nodes = [node("a", zone="x"), node("b", zone="y"), node("c", product="NVIDIA-A100-SXM4-80GB", zone="x")]
    found = take_inventory(nodes, [])
    assert found.free(H100, {"zone": "x"}) == [8]
    assert found.free("NVIDIA-A100-SXM4-80GB", {}) == [8]
    assert found.free(H100, {"zone": "z"}) == []


def test_more_held_than_there_is_leaves_nothing():
    assert take_inventory([node("a", 4)], [pod("a", 8)]).free(H100, {}) == [0]


def test_what_did_not_change_is_not_counted_again():
    inventories, nodes, pods = Inventories(), [node("a")], [pod("a", 4)]
    found = inventories.of(nodes, pods)
    assert inventories.of(nodes, pods) is found
    assert inventories.of([node("a"), node("b")], pods).free(H100, {}) == [4, 8]
    assert inventories.of([node("a")], [pod("a", 2)]).free(H100, {}) == [6]
