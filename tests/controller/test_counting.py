import pytest

from dynawatt.controller.counting import count_workload, node_rooms
from dynawatt.controller.inventory import take_inventory
from dynawatt.controller.target import read_workload

from .conftest import make_deployment, make_pod
from .memory import H100, make_node

T0 = 1767225600.0
T0_TEXT, READY = "2026-01-01T00:00:00Z", "2026-01-01T00:00:20Z"


def count(*pods, replicas=4, budgets=(), drains=True, status=None, now_s=T0 + 100.0, gpus=2):
    deployment = make_deployment(replicas, gpus=gpus) | ({"status": status} if status else {})
    workload = read_workload(deployment, pods)
    return count_workload(workload, capacity_rps=3.0, overdue_s=240.0, drains=drains, budgets=budgets, now_s=now_s)


def test_pods_by_what_becomes_of_them():
    found = count(
        make_pod("ready", ready=READY),
        make_pod("loading", created="2026-01-01T00:05:00Z"),
        make_pod("waiting", created="2026-01-01T00:05:00Z", node=None, phase="Pending"),
        make_pod("stopping", ready=READY, deleted=True),
        make_pod("failed", phase="Failed"),
        make_pod("late"),
        replicas=5,
        now_s=T0 + 400.0,
    )
    assert (found.gpus, found.capacity_rps, found.desired) == (2, 3.0, 5)
    assert (found.ready, found.starting, found.overdue, found.stopping, found.unscheduled) == (1, 2, 1, 1, 1)


@pytest.mark.parametrize(("now_s", "overdue"), [(T0 + 240.0, 0), (T0 + 241.0, 1)])
def test_a_pod_is_overdue_when_it_has_not_been_ready_for_so_long(now_s, overdue):
    found = count(make_pod("loading"), now_s=now_s)
    assert (found.starting, found.overdue) == (1 - overdue, overdue)


def failure(status):
    return {"conditions": [{"type": "Progressing", "status": "True"}, {"type": "ReplicaFailure", "status": status}]}


@pytest.mark.parametrize(("status", "overdue"), [(failure("True"), 3), (failure("False"), 0), ({}, 0)])
def test_pods_that_a_quota_does_not_let_be_created_are_not_waited_for(status, overdue):
    found = count(make_pod("ready", ready=READY), make_pod("going", deleted=True), status=status)
    assert (found.overdue, found.coming) == (overdue, 3 - overdue)


def budget(allowed, **metadata):
    selector = {"matchLabels": {"app": "llama"}}
    return {"metadata": {"name": "pdb", **metadata}, "spec": {"selector": selector}, "status": allowed}


@pytest.mark.parametrize(
    ("budgets", "drains", "drainable"),
    [
        ([], True, 2),
        ([], False, 0),
        ([budget({"disruptionsAllowed": 1})], True, 1),
        ([budget({"disruptionsAllowed": 1}), budget({"disruptionsAllowed": 0}, name="other")], True, 0),
        ([budget({"disruptionsAllowed": 2, "observedGeneration": 1}, generation=2)], True, 0),
    ],
)
def test_as_many_may_be_drained_as_budgets_and_drain_settings_allow(budgets, drains, drainable):
    pods = [make_pod("a", ready=READY), make_pod("b", ready=READY), make_pod("c")]
    assert count(*pods, budgets=budgets, drains=drains).drainable == drainable


def rooms(nodes, *pods, selector=None, **options):
    deployment = make_deployment(2, **({"nodeSelector": selector} if selector else {}))
    own = [pod for pod in pods if pod["metadata"]["labels"]["app"] == "llama"]
    inventory = take_inventory(nodes, pods)
    return node_rooms(inventory, H100, [read_workload(deployment, own)], pods, **options)


def test_what_a_node_has_free_now_and_once_those_that_stop_are_gone():
    pods = [
        make_pod("a", node="x", ready=READY),
        make_pod("b", node="x", ready=READY, deleted=True),
        make_pod("other", node="x", app="other", gpus=4, deleted=True),
        make_pod("waits", node=None),
    ]
    [room] = rooms([make_node("x")], *pods)
    assert (room.free_gpus, room.leaving_gpus, room.serving) == (2, 5, {"llama": 1})


def test_only_nodes_that_its_pods_may_run_on():
    nodes = [make_node("x", zone="1"), make_node("y", zone="2")]
    a100 = make_node("z", zone="1")
    a100["metadata"]["labels"]["nvidia.com/gpu.product"] = "NVIDIA-A100-SXM4-80GB"
    chosen = rooms([*nodes, a100], selector={"zone": "1"})
    assert {room.name: room.closed for room in chosen} == {
        "x": "",
        "y": "without zone=1 of the template's nodeSelector",
    }
    assert {room.name: room.closed for room in rooms([*nodes, a100])} == {"x": "", "y": ""}


def test_where_its_pods_may_not_run_is_told():
    nodes = [make_node("x"), make_node("y")]
    nodes[1]["spec"]["taints"] = [{"key": "pool", "value": "batch", "effect": "NoSchedule"}]
    closed = {room.name: room.closed for room in rooms(nodes)}
    assert closed == {"x": "", "y": "tainted pool=batch:NoSchedule that the template does not tolerate"}


def test_where_nodes_are_added_there_is_room_for_any_number():
    assert [room.free_gpus >= 1000 for room in rooms([make_node("x")], elastic=True)] == [False, True]
