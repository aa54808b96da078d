import pytest

from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.ports import PodKey
from dynawatt.sandbox.nodesim.nodes import SimulatedNode, gpu_uuid, requested_gpus
from dynawatt.sandbox.nodesim.state import AllocationState


def pod(name):
    return PodKey("default", name)


@pytest.fixture
def node():
    return SimulatedNode.create("gpu-node-0", spec=H100_SXM, gpu_count=8, now_s=0.0)


def held(node, uid):
    return [node.gpus.index(gpu) for gpu in node.allocations[uid].gpus]


def test_lowest_free_gpus_first_and_reuse_after_the_pod_is_gone(node):
    a, b, c = (pod("a"), 4), (pod("b"), 2), (pod("c"), 4)
    assert node.allocate({"ua": a, "ub": b}, 1.0)
    assert (held(node, "ua"), held(node, "ub")) == ([0, 1, 2, 3], [4, 5])
    assert not node.allocate({"ua": a, "ub": b, "uc": c}, 2.0)
    assert "uc" not in node.allocations
    assert node.allocate({"ub": b, "uc": c}, 3.0)
    assert (held(node, "ub"), held(node, "uc")) == ([4, 5], [0, 1, 2, 3])
    assert node.holder(node.gpus[0]) == pod("c")
    assert node.holder(node.gpus[7]) is None


def test_a_pod_of_the_same_name_is_another_pod(node):
    node.allocate({"first": (pod("a"), 8)}, 0.0)
    node.allocate({"second": (pod("a"), 4)}, 1.0)
    assert list(node.allocations) == ["second"]


def test_power_follows_allocation(node):
    node.allocate({"ua": (pod("a"), 1)}, 0.0)
    assert node.gpus[0].read(1.0).power_w > node.gpus[1].read(1.0).power_w == H100_SXM.released_w
    node.allocate({}, 2.0)
    assert node.gpus[0].read(2.0).power_w == H100_SXM.released_w


def test_uuids_are_stable_and_unique():
    uuids = {gpu_uuid(f"gpu-node-{n}", i) for n in range(4) for i in range(8)}
    assert len(uuids) == 32
    assert uuids >= {gpu_uuid("gpu-node-0", index) for index in range(8)}
    assert all(uuid.startswith("GPU-") for uuid in uuids)


@pytest.mark.parametrize(
    ("containers", "gpus"),
    [
        ([{"resources": {"limits": {"nvidia.com/gpu": "4"}}}, {}], 4),
        ([{"resources": {"limits": {"nvidia.com/gpu": 1, "cpu": "2"}}}] * 2, 2),
        ([{"resources": {"requests": {"cpu": "1"}}}], 0),
    ],
)
def test_requested_gpus(containers, gpus):
    assert requested_gpus({"containers": containers}) == gpus


def test_allocations_outlive_the_process(node, tmp_path):
    node.allocate({"ua": (pod("a"), 2), "ub": (pod("b"), 2)}, 0.0)
    node.allocate({"ub": (pod("b"), 2)}, 5.0)
    AllocationState(tmp_path).save([node])

    again = SimulatedNode.create("gpu-node-0", spec=H100_SXM, gpu_count=8, now_s=0.0)
    AllocationState(tmp_path).restore(again, 0.0)
    assert (list(again.allocations), held(again, "ub")) == (["ub"], [2, 3])
    assert [gpu.read(0.0).power_w for gpu in again.gpus] == [gpu.read(10.0).power_w for gpu in node.gpus]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"gpus": {}}'])
def test_a_broken_state_file_counts_as_absent(node, tmp_path, content):
    (tmp_path / "allocations.json").write_text(content)
    AllocationState(tmp_path).restore(node, 0.0)
    assert node.allocations == {}
