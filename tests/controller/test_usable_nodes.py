"""GPUs that no pod of a service can get are not counted on, and it is told why."""

import pytest

from .conftest import make_deployment
from .memory import make_node
from .running import Running, occupied

BATCH = {"key": "pool", "value": "batch", "effect": "NoSchedule"}
TOLERATES = {"tolerations": [{"key": "pool", "operator": "Exists"}]}


def tainted(name, *taints, gpus=8):
    node = make_node(name, gpus)
    node["spec"]["taints"] = list(taints or [BATCH])
    return node


def started(monkeypatch, *others, knobs=("Clock", "Shape"), **pod_spec):
    """Two replicas of four GPUs fill the only node that is like any other."""
    running = Running(monkeypatch, make_deployment(2, gpus=4, **pod_spec), nodes="a", knobs=list(knobs))
    running.cluster.nodes_ += others
    return running


async def test_load_is_not_planned_on_nodes_whose_taints_are_not_tolerated(monkeypatch):
    running = started(monkeypatch, tainted("b"), tainted("c"), tainted("d", gpus=2), knobs=["Replicas"])
    running.load_rps = 40.0
    await running.run(20)
    assert running.writes("scale", "create") == []
    assert running.told("Progressing") == (
        "False",
        "NoSpareCapacity",
        "the load needs more replicas than 2 x tp4: each needs 4 free GPUs on one node, the freest has 0; "
        "2 nodes have 4, but are tainted pool=batch:NoSchedule that the template does not tolerate",
    )
    assert running.reason("SLOAttainable") == "SLOUnreachable"


async def test_load_is_planned_on_nodes_whose_taints_are_tolerated(monkeypatch):
    running = started(monkeypatch, tainted("b"), knobs=["Replicas"], **TOLERATES)
    running.load_rps = 40.0
    await running.run(30, until=lambda: running.carried_rps() >= 40.0)


@pytest.mark.parametrize(
    ("pod_spec", "why"),
    [
        ({}, "tainted pool=batch:NoSchedule that the template does not tolerate"),
        (TOLERATES | {"nodeSelector": {"zone": "x"}}, "without zone=x of the template's nodeSelector"),
    ],
)
async def test_no_change_of_shape_begins_with_gpus_that_its_pods_cannot_get(monkeypatch, pod_spec, why):
    running = started(monkeypatch, tainted("b"), **pod_spec)
    running.cluster.nodes_[0]["metadata"]["labels"]["zone"] = "x"
    running.clock.settle()
    running.load_rps = 20.0  # more than one replica carries, so that none can go first
    await running.run(30)
    assert running.replicas() == {"llama": 2}
    assert running.told("Progressing")[:2] == ("False", "NoSpareCapacity")
    assert f"1 node has 1, but is {why}" in running.told("Progressing")[2]
    running.cluster.nodes_.append(make_node("c", zone="x"))
    await running.run(60, until=lambda: running.serving() == {"llama": 0, "tp1": 6})


async def test_originals_are_not_given_back_to_where_they_cannot_run(monkeypatch):
    running = started(monkeypatch, make_node("b"))
    await running.run(60, until=lambda: running.replicas() == {"llama": 0, "tp1": 2} and running.reshape is None)
    for node in running.cluster.nodes_:
        running.cluster.pods_.append(occupied(node["metadata"]["name"], 6))
    running.cluster.nodes_.append(tainted("c"))
    running.spec["mode"] = "Off"
    await running.run(10)
    assert running.serving() == {"llama": 0, "tp1": 2}
    assert "1 node has 4, but is tainted pool=batch:NoSchedule" in running.told("Progressing")[2]
