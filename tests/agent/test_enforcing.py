from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.agent.enforcing import (
    ClockRange,
    Commanded,
    GpuState,
    Lock,
    Refusal,
    Reset,
    Setting,
    Wanted,
    at_least,
    decide,
    snap,
)
from dynawatt.agent.ownership import Ownership, find_owners
from dynawatt.api.conditions import Reason
from dynawatt.ports import HeldDevice, PodKey

STALE = Refusal(Reason.LEASE_STALE, "not renewed")
SHARED = Refusal(Reason.GPU_SHARED, "0 is held by 2 pods")
CLOCKS_MHZ = (345, 360, 375, 1980)
LOCKED = ClockRange(345, 360)
CLAIM = Wanted(345, 352, 375)
A, B = PodKey("prod", "a"), PodKey("prod", "b")


def gpu(
    commanded: Commanded = Setting.DEFAULT, supported: Sequence[int] | None = CLOCKS_MHZ, refused: str = ""
) -> GpuState:
    return GpuState(supported, commanded, refused)


def owned(gpus: Mapping[PodKey, Sequence[str]], refusals: Mapping[PodKey, Refusal] | None = None) -> Ownership:
    """Pods with the GPUs they hold, and why some of them may not be governed."""
    refusals = refusals or {}
    holders: dict[str, tuple[PodKey, ...]] = {}
    for pod, uuids in gpus.items():
        for uuid in uuids:
            holders[uuid] = (*holders.get(uuid, ()), pod)
    return Ownership(holders, {pod: tuple(held) for pod, held in gpus.items() if pod not in refusals}, refusals)


def test_claim_locks_the_whole_pod() -> None:
    decision = decide(
        gpus={"0": gpu(), "1": gpu(), "2": gpu()}, ownership=owned({A: ["0", "1"]}), claims={A: CLAIM}, barred=None
    )
    assert decision.locks == (Lock(A, ("0", "1"), LOCKED),)
    assert decision.granted == {A: (345, 375)}
    assert (decision.resets, decision.refusals) == ((), {})


def test_a_clock_is_set_only_when_it_changes() -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu(LOCKED)}
    decision = decide(gpus=gpus, ownership=owned({A: ["0", "1"]}), claims={A: CLAIM}, barred=None)
    assert not decision.locks
    assert not decision.resets


@pytest.mark.parametrize("odd_one", [Setting.DEFAULT, Setting.UNKNOWN, ClockRange(345, 345)])
def test_one_gpu_that_differs_concerns_the_group(odd_one: Commanded) -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu(odd_one)}
    decision = decide(gpus=gpus, ownership=owned({A: ["0", "1"]}), claims={A: CLAIM}, barred=None)
    assert decision.locks == (Lock(A, ("0", "1"), LOCKED),)


@pytest.mark.parametrize(
    ("ownership", "claims", "reason"),
    [
        (owned({}), {}, "no pod holds it"),
        (owned({A: ["0"]}), {}, "no valid claim"),
        (owned({A: ["0"]}), {B: CLAIM}, "no valid claim"),
        (owned({A: ["0"], B: ["0"]}, {A: SHARED, B: SHARED}), {A: CLAIM}, f"claim of prod/a refused: {SHARED.message}"),
        (owned({A: ["0"], B: ["0"]}, {A: SHARED, B: SHARED}), {B: CLAIM}, f"claim of prod/b refused: {SHARED.message}"),
        (owned({A: ["0"]}, {A: SHARED}), {}, "no valid claim"),
    ],
)
def test_whatever_is_not_one_pod_with_a_valid_claim_resets(
    ownership: Ownership, claims: dict[PodKey, Wanted], reason: str
) -> None:
    decision = decide(gpus={"0": gpu(LOCKED)}, ownership=ownership, claims=claims, barred=None)
    assert decision.resets == (Reset("0", reason),)
    assert not decision.locks


def test_gpu_handed_on_is_reset_before_others_are_locked() -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu()}
    decision = decide(gpus=gpus, ownership=owned({B: ["0"], A: ["1"]}), claims={A: CLAIM}, barred=None)
    assert decision.resets == (Reset("0", "no valid claim"),)
    assert decision.locks == (Lock(A, ("1",), LOCKED),)


@pytest.mark.parametrize(
    ("gpus", "ownership", "reason", "message"),
    [
        ({"0": gpu(refused="0 refused 345-375MHz")}, owned({A: ["0"]}), Reason.GPU_ERROR, "0 refused 345-375MHz"),
        ({"0": gpu(supported=None)}, owned({A: ["0"]}), Reason.GPU_ERROR, "0 does not say which clocks it supports"),
        ({"0": gpu(supported=())}, owned({A: ["0"]}), Reason.CLOCK_CONTROL_UNSUPPORTED, "no supported clock in common"),
        (
            {"0": gpu(), "1": gpu(supported=(500,))},
            owned({A: ["0", "1"]}),
            Reason.CLOCK_CONTROL_UNSUPPORTED,
            "no supported clock in common",
        ),
        ({"0": gpu()}, owned({}), Reason.CLAIMS_PENDING, "holds no GPU of this node"),
        ({"0": gpu()}, owned({A: ["0"]}, {A: SHARED}), Reason.GPU_SHARED, "0 is held by 2 pods"),
    ],
)
def test_refused_claims_say_why(gpus: dict[str, GpuState], ownership: Ownership, reason: Reason, message: str) -> None:
    decision = decide(gpus=gpus, ownership=ownership, claims={A: CLAIM}, barred=None)
    assert not decision.locks
    assert decision.refusals[A].reason is reason
    assert message in decision.refusals[A].message


@pytest.mark.parametrize("claims", [{A: CLAIM}, None])
@pytest.mark.parametrize("ownership", [owned({A: ["0"]}), None])
def test_when_claims_are_barred_all_is_reset_whatever_else_is_known(
    ownership: Ownership | None, claims: dict[PodKey, Wanted] | None
) -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu(Setting.UNKNOWN), "2": gpu()}
    decision = decide(gpus=gpus, ownership=ownership, claims=claims, barred=STALE)
    assert decision.resets == (Reset("0", "not renewed"), Reset("1", "not renewed"))
    assert not decision.locks
    assert not decision.granted
    assert decision.refusals == dict.fromkeys(claims or (), STALE)


@pytest.mark.parametrize(("ownership", "claims"), [(None, {A: CLAIM}), (owned({A: ["0"]}), None)])
def test_not_knowing_holds_what_is_certain(ownership: Ownership | None, claims: dict[PodKey, Wanted] | None) -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu(Setting.UNKNOWN)}
    decision = decide(gpus=gpus, ownership=ownership, claims=claims, barred=None)
    assert decision.resets == (Reset("1", "its clocks are unknown"),)
    assert not decision.locks


@pytest.mark.parametrize(
    ("claim", "locked"),
    [
        ((345, 1980), (345, 1980)),
        ((100, 5000), (345, 1980)),
        ((350, 379), (360, 375)),
        ((361, 362), (375, 375)),
        ((400, 1000), (1980, 1980)),
        ((100, 200), (345, 345)),
        ((3000, 4000), (1980, 1980)),
    ],
)
def test_snap(claim: tuple[int, int], locked: tuple[int, int]) -> None:
    assert snap(ClockRange(*claim), CLOCKS_MHZ) == locked


clock = st.integers(100, 3000)
claim_range = st.tuples(clock, clock).map(lambda pair: ClockRange(min(pair), max(pair)))
wanted = st.tuples(clock, clock, clock).map(lambda clocks: Wanted(*sorted(clocks)))
clock_list = st.lists(clock, min_size=1, max_size=20, unique=True).map(sorted)


@given(claim_range, clock_list)
def test_snapped_claims_are_supported_and_never_slower_than_allowed(claim: ClockRange, supported: list[int]) -> None:
    low, high = snap(claim, supported)
    assert {low, high} <= set(supported)
    assert low <= high
    assert low >= min(claim.min_mhz, supported[-1])
    assert high <= claim.max_mhz or not [mhz for mhz in supported if claim.min_mhz <= mhz <= claim.max_mhz]


@given(wanted, clock_list)
def test_a_clock_is_the_lowest_supported_one_of_the_claim_that_suffices(want: Wanted, supported: list[int]) -> None:
    granted = snap(ClockRange(want.floor_mhz, want.ceiling_mhz), supported)
    found = at_least(want.clock_mhz, granted, supported)
    assert found in supported
    assert granted.min_mhz <= found <= granted.max_mhz
    assert found >= want.clock_mhz or found == granted.max_mhz
    assert not [mhz for mhz in supported if want.clock_mhz <= mhz < found and mhz >= granted.min_mhz]


commanded = st.one_of(st.sampled_from(Setting), claim_range)
gpu_state = st.builds(
    GpuState, st.one_of(st.none(), st.just([]), clock_list), commanded, st.sampled_from(["", "refused"])
)
pod_key = st.sampled_from([PodKey("prod", name) for name in "abcd"])
uuids = st.sampled_from([f"GPU-{index}" for index in range(6)])
device_id = st.one_of(uuids, uuids, uuids, uuids.map("{}::0".format), st.sampled_from(["MIG-1", "GPU-away"]))


@given(
    st.dictionaries(uuids, gpu_state),
    st.none() | st.dictionaries(pod_key, st.lists(device_id, max_size=4)),
    st.dictionaries(pod_key, st.sampled_from(["Running", "Running", "Pending", "Failed"])),
    st.none() | st.dictionaries(pod_key, wanted),
    st.sampled_from([None, None, STALE]),
    st.sets(uuids, max_size=1),
)
def test_every_decision_is_safe(
    gpus: dict[str, GpuState],
    held: dict[PodKey, list[str]] | None,
    phases: dict[PodKey, str],
    claims: dict[PodKey, Wanted] | None,
    barred: Refusal | None,
    partitioned: set[str],
) -> None:
    mig = {uuid: uuid in partitioned for uuid in gpus}
    devices = [HeldDevice(pod, "nvidia.com/gpu", device) for pod, ids in (held or {}).items() for device in ids]
    owners = find_owners(devices, mig=mig, pods={pod: ("uid", phase) for pod, phase in phases.items()})
    ownership = None if held is None else owners
    decision = decide(gpus=gpus, ownership=ownership, claims=claims, barred=barred)
    reset = {command.uuid for command in decision.resets}
    locked = [uuid for command in decision.locks for uuid in command.uuids]
    assert len(locked) == len(set(locked))
    assert not reset & set(locked)
    for lock in decision.locks:
        assert barred is None
        assert held is not None
        assert claims is not None
        assert phases[lock.pod] == "Running"
        assert set(lock.uuids) == set(held[lock.pod])
        assert not partitioned & set(lock.uuids)
        for uuid in lock.uuids:
            assert set(lock.clocks) <= set(gpus[uuid].supported_mhz or ())
            users = {pod for pod, ids in held.items() if uuid in {each.partition("::")[0] for each in ids}}
            assert {pod for pod in users if phases.get(pod) != "Failed"} == {lock.pod}
    assert all(before.pod != after.pod for before, after in pairwise(decision.locks))
    set_before = {uuid for uuid, state in gpus.items() if state.commanded is not Setting.DEFAULT}
    if barred:
        assert reset == set_before
    elif held is not None and claims is not None:
        granted = {uuid for pod in decision.granted for uuid in held[pod]}
        assert reset == set_before - granted
        for pod in claims:
            settings = {gpus[uuid].commanded for uuid in held.get(pod, []) if uuid in gpus and uuid not in reset}
            touched = any(lock.pod == pod for lock in decision.locks)
            assert touched or len(settings) <= 1
            assert (pod in decision.granted) != (pod in decision.refusals)
