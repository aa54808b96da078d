from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.agent.ownership import Ownership, OwnershipMemory, find_owners
from dynawatt.api.conditions import Reason
from dynawatt.ports import HeldDevice, PodKey

A, B, C = PodKey("prod", "a"), PodKey("prod", "b"), PodKey("test", "a")
RUNNING = {A: ("uid-a", "Running"), B: ("uid-b", "Running"), C: ("uid-c", "Running")}
MIG_OFF = {"GPU-0": False, "GPU-1": False, "GPU-2": False}


def gpu(pod: PodKey, *ids: str, resource: str = "nvidia.com/gpu") -> list[HeldDevice]:
    return [HeldDevice(pod, resource, device_id) for device_id in ids]


def claimed(pod: PodKey, device_id: str = "node/gpu-0") -> list[HeldDevice]:
    return [HeldDevice(pod, "gpu.nvidia.com", device_id, dynamic=True)]


def owners(
    held: Sequence[HeldDevice],
    *,
    pods: dict[PodKey, tuple[str, str]] | None = RUNNING,
    mig: dict[str, bool] = MIG_OFF,
) -> Ownership:
    return find_owners(held, mig=mig, pods=pods)


def reasons(found: Ownership) -> dict[PodKey, Reason]:
    return {pod: refusal.reason for pod, refusal in found.refusals.items()}


def test_whole_gpus_of_one_pod_each() -> None:
    assert owners([*gpu(A, "GPU-1", "GPU-0"), *gpu(B, "GPU-2")]) == Ownership(
        holders={"GPU-0": (A,), "GPU-1": (A,), "GPU-2": (B,)},
        gpus={A: ("GPU-0", "GPU-1"), B: ("GPU-2",)},
    )


def test_nobody_holds_anything() -> None:
    assert owners([]) == Ownership()


@pytest.mark.parametrize(
    ("device_id", "resource", "reason", "holder"),
    [
        ("GPU-0::1", "nvidia.com/gpu", Reason.GPU_SHARED, True),
        ("GPU-0::", "nvidia.com/gpu", Reason.GPU_SHARED, True),
        ("GPU-0", "nvidia.com/gpu.shared", Reason.GPU_SHARED, True),
        ("0::3", "nvidia.com/gpu", Reason.GPU_SHARED, False),
        ("nvidia0/vgpu1", "nvidia.com/gpu", Reason.GPU_SHARED, False),
        ("MIG-7c0e", "nvidia.com/gpu", Reason.MIG_ENABLED, False),
        ("MIG-7c0e::0", "nvidia.com/mig-1g.10gb.shared", Reason.MIG_ENABLED, False),
        ("MIG-GPU-0/1/0", "nvidia.com/gpu", Reason.MIG_ENABLED, True),
        ("GPU-0", "nvidia.com/mig-1g.10gb", Reason.MIG_ENABLED, True),
        ("nvidia0/gi3", "nvidia.com/gpu", Reason.MIG_ENABLED, False),
        ("nvidia0/gi3/vgpu1", "nvidia.com/gpu", Reason.MIG_ENABLED, False),
        ("0", "nvidia.com/gpu", Reason.UNKNOWN_DEVICE_ID, False),
        ("nvidia0", "nvidia.com/gpu", Reason.UNKNOWN_DEVICE_ID, False),
        ("GPU-9", "nvidia.com/gpu", Reason.UNKNOWN_DEVICE_ID, False),
        ("gpu-0", "nvidia.com/gpu", Reason.UNKNOWN_DEVICE_ID, False),
        ("", "", Reason.UNKNOWN_DEVICE_ID, False),
    ],
)
def test_what_is_no_whole_gpu_is_energy_only(device_id: str, resource: str, reason: Reason, holder: bool) -> None:
    found = owners(gpu(A, device_id, resource=resource))
    assert found.gpus == {}
    assert reasons(found) == {A: reason}
    assert found.holders == ({"GPU-0": (A,)} if holder else {})
    assert found.energy_only == ({"GPU-0": found.refusals[A]} if holder else {})


def test_resource_claims_tell_no_uuid() -> None:
    found = owners(claimed(A))
    assert reasons(found) == {A: Reason.DRA_UNSUPPORTED}
    assert "'node/gpu-0'" in found.refusals[A].message
    assert found.holders == {}


def test_a_gpu_in_mig_mode_is_left_alone_used_or_not() -> None:
    mig = {"GPU-0": True, "GPU-1": False, "GPU-2": True}
    found = owners([*gpu(A, "GPU-0"), *gpu(B, "GPU-1")], mig=mig)
    assert found.gpus == {B: ("GPU-1",)}
    assert reasons(found) == {A: Reason.MIG_ENABLED}
    assert {uuid: refusal.reason for uuid, refusal in found.energy_only.items()} == dict.fromkeys(
        ["GPU-0", "GPU-2"], Reason.MIG_ENABLED
    )


@pytest.mark.parametrize("odd", ["GPU-1::0", "MIG-7c0e", "GPU-9", "GPU-2"])
def test_all_gpus_of_a_pod_stand_or_fall_together(odd: str) -> None:
    found = owners(gpu(A, "GPU-0", odd), mig={"GPU-0": False, "GPU-1": False, "GPU-2": True})
    assert found.gpus == {}
    assert found.energy_only["GPU-0"] == found.refusals[A]


def test_two_pods_on_a_gpu_share_it() -> None:
    found = owners([*gpu(A, "GPU-0"), *gpu(B, "GPU-0", "GPU-1"), *gpu(C, "GPU-2")])
    assert found.gpus == {C: ("GPU-2",)}
    assert reasons(found) == {A: Reason.GPU_SHARED, B: Reason.GPU_SHARED}
    assert found.refusals[A].message == "GPU-0 is held by 2 pods: prod/a, prod/b"
    assert found.holders["GPU-0"] == (A, B)
    assert found.energy_only["GPU-1"] == found.refusals[B]


@pytest.mark.parametrize("over", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_holds_nothing(over: str) -> None:
    held = [*gpu(A, "GPU-0"), *gpu(B, "GPU-0", "GPU-1")]
    found = owners(held, pods={A: ("uid-a", "Running"), B: ("uid-b", over)})
    assert found == Ownership(holders={"GPU-0": (A,)}, gpus={A: ("GPU-0",)})


@pytest.mark.parametrize("other", [None, ("uid-b", "Pending"), ("uid-b", "Unknown"), ("uid-b", "")])
def test_a_second_pod_that_may_have_ended_leaves_the_gpu_in_doubt(other: tuple[str, str] | None) -> None:
    pods = {A: ("uid-a", "Running")} | ({B: other} if other else {})
    found = owners([*gpu(A, "GPU-0"), *gpu(B, "GPU-0")], pods=pods)
    assert found.gpus == {}
    assert reasons(found) == {A: Reason.AMBIGUOUS_POD, B: Reason.AMBIGUOUS_POD}
    assert found.holders == {"GPU-0": (A, B)}


def test_a_pod_that_the_api_does_not_have() -> None:
    found = owners([*gpu(A, "GPU-0"), *gpu(B, "GPU-1")], pods={A: ("uid-a", "Running")})
    assert found.gpus == {A: ("GPU-0",)}
    assert reasons(found) == {B: Reason.AMBIGUOUS_POD}
    assert found.holders == {"GPU-0": (A,), "GPU-1": (B,)}
    assert found.energy_only == {"GPU-1": found.refusals[B]}


def test_nothing_is_governed_before_the_api_has_told_its_pods() -> None:
    found = owners(gpu(A, "GPU-0"), pods=None)
    assert found.gpus == {}
    assert reasons(found) == {A: Reason.AMBIGUOUS_POD}
    assert found.holders == {"GPU-0": (A,)}


@pytest.mark.parametrize("phase", ["Pending", "Unknown", ""])
def test_a_pod_that_does_not_run_yet_waits(phase: str) -> None:
    found = owners(gpu(A, "GPU-0"), pods={A: ("uid-a", phase)})
    assert found.gpus == {}
    assert reasons(found) == {A: Reason.CLAIMS_PENDING}
    assert found.holders == {"GPU-0": (A,)}
    assert found.energy_only == {}


STRAYS = [*[gpu(B, stray) for stray in ("0", "nvidia1", "nvidia1/vgpu0", "0::1", "")], claimed(B)]


@pytest.mark.parametrize("stray", STRAYS)
def test_a_device_that_may_be_any_gpu_keeps_all_clocks_alone(stray: list[HeldDevice]) -> None:
    found = owners([*gpu(A, "GPU-0"), *stray])
    assert found.gpus == {}
    assert found.refusals[A].reason is found.refusals[B].reason
    assert "prod/b holds" in found.refusals[A].message
    assert found.energy_only == {"GPU-0": found.refusals[A]}
    ended = owners([*gpu(A, "GPU-0"), *stray], pods={**RUNNING, B: ("uid-b", "Succeeded")})
    assert ended.gpus == {A: ("GPU-0",)}


@pytest.mark.parametrize("elsewhere", ["GPU-9", "GPU-9::0", "MIG-7c0e", "nvidia1/gi3", "GPU-2", "GPU-2::1"])
def test_a_device_that_is_somewhere_else_concerns_nobody(elsewhere: str) -> None:
    assert owners([*gpu(A, "GPU-0"), *gpu(B, elsewhere)]).gpus[A] == ("GPU-0",)


def test_messages_are_short_lines_whatever_the_id() -> None:
    for refusal in owners(gpu(A, "\n\x1b[31m\ud800" + 10_000 * "x")).refusals.values():
        assert len(refusal.message) < 300
        assert refusal.message.isprintable()


class Node:
    """A kubelet, an API that lags behind it, and the memory between them."""

    def __init__(self) -> None:
        self.memory = OwnershipMemory()
        self.pods: dict[PodKey, tuple[str, str]] = {A: ("uid-1", "Running")}

    def see(self, *ids: str) -> Ownership:
        return self.memory.judge(gpu(A, *ids), mig=MIG_OFF, pods=self.pods)


def test_a_successor_of_the_same_name_is_not_governed_as_its_predecessor() -> None:
    node = Node()
    assert node.see("GPU-0").gpus == {A: ("GPU-0",)}
    for _ in range(3):
        found = node.see("GPU-1")
        assert reasons(found) == {A: Reason.AMBIGUOUS_POD}
        assert found.holders == {"GPU-1": (A,)}
    node.pods = {A: ("uid-2", "Pending")}
    assert reasons(node.see("GPU-1")) == {A: Reason.CLAIMS_PENDING}
    node.pods = {A: ("uid-2", "Running")}
    assert node.see("GPU-1").gpus == {A: ("GPU-1",)}


@pytest.mark.parametrize("other", [("GPU-0", "GPU-1"), ("GPU-2",), ("GPU-0::1",), ("MIG-7c0e",)])
def test_any_other_set_of_devices_is_another_pod(other: tuple[str, ...]) -> None:
    node = Node()
    node.see("GPU-0", "GPU-2")
    assert node.see(*other).gpus == {}
    assert node.see("GPU-2", "GPU-0").gpus == {A: ("GPU-0", "GPU-2")}


def test_a_predecessor_that_the_kubelet_still_lists_is_not_taken_for_the_new_pod() -> None:
    node = Node()
    node.pods = {A: ("uid-2", "Pending")}
    assert node.see("GPU-0").gpus == {}
    node.pods = {A: ("uid-2", "Running")}
    assert node.see("GPU-1").gpus == {A: ("GPU-1",)}


def test_a_kubelet_that_lists_nothing_for_a_moment_proves_nothing() -> None:
    node = Node()
    node.see("GPU-0")
    assert node.see() == Ownership()
    assert node.see("GPU-0").gpus == {A: ("GPU-0",)}
    assert node.see("GPU-1").gpus == {}


def test_pods_of_the_past_are_forgotten() -> None:
    node = Node()
    node.see("GPU-0")
    node.pods = {}
    node.see()
    node.pods = {A: ("uid-1", "Running")}
    assert node.see("GPU-1").gpus == {A: ("GPU-1",)}


UUIDS = [f"GPU-{index}" for index in range(4)]
some_id = st.one_of(
    st.sampled_from(
        [*UUIDS, *UUIDS, "GPU-0::1", "MIG-GPU-1/0/0", "MIG-1", "GPU-9", "nvidia0/gi1", "nvidia0/vgpu0", "0"]
    ),
    st.text(max_size=20),
)
some_pod = st.sampled_from([A, B, C, PodKey("", ""), PodKey("prod", "gone")])
some_resource = st.sampled_from(["nvidia.com/gpu"] * 4 + ["nvidia.com/gpu.shared", "nvidia.com/mig-1g.10gb", ""])
some_held = st.lists(st.builds(HeldDevice, some_pod, some_resource, some_id, st.sampled_from([False] * 6 + [True])))
some_pods = st.none() | st.dictionaries(
    some_pod, st.tuples(st.sampled_from("123"), st.sampled_from(["Running"] * 4 + ["Pending", "Failed", "?"]))
)
some_mig = st.dictionaries(st.sampled_from(UUIDS), st.sampled_from([False] * 4 + [True]))


@given(held=some_held, pods=some_pods, mig=some_mig, data=st.data())
def test_whatever_is_governed_is_certain(
    held: list[HeldDevice],
    pods: dict[PodKey, tuple[str, str]] | None,
    mig: dict[str, bool],
    data: st.DataObject,
) -> None:
    found = find_owners(held, mig=mig, pods=pods)
    governed = [uuid for uuids in found.gpus.values() for uuid in uuids]
    assert len(governed) == len(set(governed))
    living = [device for device in held if (pods or {}).get(device.pod, ("", ""))[1] != "Failed"]
    for pod, uuids in found.gpus.items():
        assert pods is not None
        assert pods[pod][1] == "Running"
        mine = [device for device in living if device.pod == pod]
        assert uuids == tuple(sorted({device.device_id for device in mine}))
        assert {device.resource for device in mine} <= {"nvidia.com/gpu", ""}
        assert not any(device.dynamic or mig[device.device_id] for device in mine)
        assert all(found.holders[uuid] == (pod,) for uuid in uuids)
        assert not any(device.pod != pod and uuid in device.device_id for uuid in uuids for device in living)
    for device in living:
        if device.device_id in mig and not device.dynamic:
            assert device.pod in found.holders[device.device_id]
    assert found.gpus.keys() | found.refusals.keys() == {device.pod for device in living}
    assert not found.gpus.keys() & found.refusals.keys()
    assert not set(governed) & found.energy_only.keys()
    assert found.holders.keys() | found.energy_only.keys() <= mig.keys()
    assert find_owners(data.draw(st.permutations(held)), mig=mig, pods=pods) == found


@given(st.lists(st.tuples(st.lists(st.sampled_from(UUIDS), max_size=3), st.sampled_from("12")), min_size=1))
def test_a_running_pod_is_governed_on_its_first_devices_only(seen: list[tuple[list[str], str]]) -> None:
    memory = OwnershipMemory()
    first: dict[str, set[str]] = {}
    last_uid = ""
    for ids, uid in seen:
        if uid != last_uid:
            first, last_uid = {}, uid
        if ids:
            first.setdefault(uid, set(ids))
        found = memory.judge(gpu(A, *ids), mig=dict.fromkeys(UUIDS, False), pods={A: (uid, "Running")})
        assert (A in found.gpus) == (bool(ids) and first[uid] == set(ids))
