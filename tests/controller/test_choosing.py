import pytest

from dynawatt.adapters.kubernetes.client import API_ERRORS
from dynawatt.api.conditions import find_condition
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.controller.choosing import ShapeChoice
from dynawatt.controller.inventory import take_inventory
from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.reshape_record import note_failure
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.shapes.shape import Shape, sibling_name
from dynawatt.controller.target import read_target, read_workload
from dynawatt.controller.tick import Tick

from .conftest import make_deployment
from .memory import H100, make_node
from .running import SLO


@pytest.fixture
def further(cluster, draft):
    """The further shapes by name, and what is told about them."""
    cluster.nodes_ = [make_node("a"), make_node("b", gpus=4)]
    cluster.deployment_ = make_deployment(2, gpus=2)
    runtime = ServiceRuntime("uid", "default", "llama", "2026-01-01T00:00:00Z", "llama", ServiceLoad(10.0, 60.0), H100)

    async def ask(described=None, **spec):
        parsed = LLMServiceSpec.parse({"deploymentRef": {"name": "llama"}, "knobs": ["Shape"], "slo": SLO} | spec)
        siblings = [read_workload(one, []) for name, one in cluster.deployments_.items() if name != "llama"]
        target = read_target(read_workload(cluster.deployment_, []), siblings, name="llama", container=None)
        found = described or draft()
        tick = Tick(runtime, parsed, target, take_inventory(cluster.nodes_, []), found)
        shapes = await ShapeChoice(cluster).further(tick)
        told = find_condition(found.status.conditions, "Progressing")
        return sorted(shapes), told.message if told.reason == "ReshapeRefused" else ""

    return ask


async def test_all_sizes_that_the_model_and_the_nodes_can_do(further):
    assert await further() == (["tp1", "tp4", "tp8"], "")


async def test_only_with_the_knob(further):
    assert await further(knobs=["Clock", "Replicas"]) == ([], "")


async def test_only_those_that_the_user_allows(further):
    assert await further(tensorParallelSizes=[2, 4]) == (["tp4"], "")


async def test_sizes_that_the_user_allows_and_that_cannot_be_are_told(further):
    shapes, told = await further(tensorParallelSizes=[4, 16])
    assert shapes == ["tp4"]
    assert "16" in told


async def test_a_size_larger_than_any_node_is_told(further, cluster):
    del cluster.nodes_[0]
    shapes, told = await further(tensorParallelSizes=[4, 8])
    assert shapes == ["tp4"]
    assert "the largest that its pods may run on has 4" in told


async def test_only_nodes_that_its_pods_may_run_on_count(further, cluster):
    cluster.nodes_[1]["metadata"]["labels"]["pool"] = "small"
    cluster.deployment_["spec"]["template"]["spec"]["nodeSelector"] = {"pool": "small"}
    assert await further() == (["tp1", "tp4"], "")


async def test_nodes_whose_taints_its_pods_do_not_tolerate_do_not_count(further, cluster):
    cluster.nodes_[0]["spec"]["taints"] = [{"key": "pool", "value": "batch", "effect": "NoSchedule"}]
    assert await further() == (["tp1", "tp4"], "")


async def test_a_shape_that_is_there_is_no_further_one(further, cluster):
    other = cluster.deployments_["llama-other"] = make_deployment(0, gpus=4)
    other["metadata"]["name"] = "llama-other"
    assert (await further())[0] == ["tp1", "tp8"]


async def test_a_shape_that_failed_to_start_is_left_out_for_a_while(further, draft):
    found = draft()
    note_failure(found, sibling_name("llama", Shape(4, gpu_product=H100)), "did not start")
    assert (await further(found))[0] == ["tp1", "tp8"]


async def test_a_deployment_that_cannot_be_copied_has_none_and_is_told_why(further, cluster):
    cluster.deployment_["spec"]["template"]["spec"]["hostNetwork"] = True
    shapes, told = await further()
    assert shapes == []
    assert "hostNetwork" in told


@pytest.fixture
def asked(cluster, monkeypatch):
    cluster.deployment_["spec"]["template"]["spec"]["volumes"] = [
        {"name": "weights", "persistentVolumeClaim": {"claimName": "weights"}},
        {"name": "scratch", "emptyDir": {}},
    ]
    names = []
    access_modes = cluster.access_modes
    monkeypatch.setattr(cluster, "access_modes", lambda *args: names.append(args) or access_modes(*args))
    return names


async def test_volumes_are_asked_for_once_for_each_version_of_the_deployment(further, cluster, asked):
    cluster.claims_ = {"weights": ["ReadOnlyMany"]}
    for _ in range(2):
        assert (await further())[0] == ["tp1", "tp4", "tp8"]
    assert asked == [("default", "weights")]
    cluster.bump(cluster.deployment_)
    await further()
    assert len(asked) == 2


async def test_a_volume_of_one_node_is_told(further, cluster, asked):
    cluster.claims_ = {"weights": ["ReadWriteOnce"]}
    shapes, told = await further()
    assert shapes == []
    assert "'weights' is ReadWriteOnce" in told


async def test_a_volume_that_is_missing_is_looked_for_again(further, cluster, asked):
    assert "'weights' of volume 'weights' does not exist" in (await further())[1]
    cluster.claims_ = {"weights": ["ReadWriteMany"]}
    assert await further() == (["tp1", "tp4", "tp8"], "")


async def test_a_volume_that_cannot_be_asked_for_holds_everything(further, cluster, asked):
    cluster.failing = OSError("no route")
    with pytest.raises(API_ERRORS):
        await further()
