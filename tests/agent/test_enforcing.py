from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.agent.enforcing import (
    ClockRange,
    Commanded,
    GpuState,
    Lock,
    Reset,
    Setting,
    Wanted,
    at_least,
    decide,
    snap,
)
from dynawatt.agent.lease import LeaseState
from dynawatt.api.conditions import Reason
from dynawatt.ports import PodKey

FRESH = LeaseState(fresh=True, age_s=1.0, reason="")
STALE = LeaseState(fresh=False, age_s=31.0, reason="not renewed")
CLOCKS_MHZ = (345, 360, 375, 1980)
LOCKED = ClockRange(345, 360)
CLAIM = Wanted(345, 352, 375)
A, B = PodKey("prod", "a"), PodKey("prod", "b")


def gpu(
    commanded: Commanded = Setting.DEFAULT, supported: Sequence[int] | None = CLOCKS_MHZ, refused: str = ""
) -> GpuState:
    return GpuState(supported, commanded, refused)


def test_claim_locks_the_whole_pod() -> None:
    decision = decide(
        gpus={"0": gpu(), "1": gpu(), "2": gpu()}, allocations={A: ["0", "1"]}, claims={A: CLAIM}, lease=FRESH
    )
    assert decision.locks == (Lock(A, ("0", "1"), LOCKED),)
    assert decision.granted == {A: (345, 375)}
    assert (decision.resets, decision.refusals) == ((), {})


def test_a_clock_is_set_only_when_it_changes() -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu(LOCKED)}
    decision = decide(gpus=gpus, allocations={A: ["0", "1"]}, claims={A: CLAIM}, lease=FRESH)
    assert not decision.locks
    assert not decision.resets


@pytest.mark.parametrize("odd_one", [Setting.DEFAULT, Setting.UNKNOWN, ClockRange(345, 345)])
def test_one_gpu_that_differs_concerns_the_group(odd_one: Commanded) -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu(odd_one)}
    decision = decide(gpus=gpus, allocations={A: ["0", "1"]}, claims={A: CLAIM}, lease=FRESH)
    assert decision.locks == (Lock(A, ("0", "1"), LOCKED),)


@pytest.mark.parametrize(
    ("allocations", "claims", "reason"),
    [
        ({}, {}, "no pod holds it"),
        ({A: ["0"]}, {}, "no valid claim"),
        ({A: ["0"]}, {B: CLAIM}, "no valid claim"),
        ({A: ["0"], B: ["0"]}, {A: CLAIM}, "claim of prod/a refused: 0 is held by 2 pods"),
        ({A: ["0", "MIG-7"]}, {A: CLAIM}, "claim of prod/a refused: MIG-7 is not a whole GPU known on this node"),
    ],
)
def test_whatever_is_not_one_pod_with_a_valid_claim_resets(
    allocations: dict[PodKey, list[str]], claims: dict[PodKey, Wanted], reason: str
) -> None:
    decision = decide(gpus={"0": gpu(LOCKED)}, allocations=allocations, claims=claims, lease=FRESH)
    assert decision.resets == (Reset("0", reason),)
    assert not decision.locks


def test_gpu_handed_on_is_reset_before_others_are_locked() -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu()}
    decision = decide(gpus=gpus, allocations={B: ["0"], A: ["1"]}, claims={A: CLAIM}, lease=FRESH)
    assert decision.resets == (Reset("0", "no valid claim"),)
    assert decision.locks == (Lock(A, ("1",), LOCKED),)


@pytest.mark.parametrize(
    ("gpus", "allocations", "reason", "message"),
    [
        ({"0": gpu(refused="0 refused 345-375MHz")}, {A: ["0"]}, Reason.GPU_ERROR, "0 refused 345-375MHz"),
        ({"0": gpu(supported=None)}, {A: ["0"]}, Reason.GPU_ERROR, "0 does not say which clocks it supports"),
        ({"0": gpu(supported=())}, {A: ["0"]}, Reason.CLOCK_CONTROL_UNSUPPORTED, "no supported clock in common"),
        (
            {"0": gpu(), "1": gpu(supported=(500,))},
            {A: ["0", "1"]},
            Reason.CLOCK_CONTROL_UNSUPPORTED,
            "no supported clock in common",
        ),
        ({"0": gpu()}, {}, Reason.CLAIMS_PENDING, "holds no GPU of this node"),
    ],
)
def test_refused_claims_say_why(
    gpus: dict[str, GpuState], allocations: dict[PodKey, list[str]], reason: Reason, message: str
) -> None:
    decision = decide(gpus=gpus, allocations=allocations, claims={A: CLAIM}, lease=FRESH)
    assert not decision.locks
    assert decision.refusals[A].reason is reason
    assert message in decision.refusals[A].message


def test_stale_lease_resets_all_and_says_so() -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu(Setting.UNKNOWN), "2": gpu()}
    decision = decide(gpus=gpus, allocations=None, claims={A: CLAIM}, lease=STALE)
    assert decision.resets == (Reset("0", "not renewed"), Reset("1", "not renewed"))
    assert decision.refusals[A].reason is Reason.LEASE_STALE


@pytest.mark.parametrize(("allocations", "claims"), [(None, {A: CLAIM}), ({A: ["0"]}, None)])
def test_not_knowing_holds_what_is_certain(
    allocations: dict[PodKey, list[str]] | None, claims: dict[PodKey, Wanted] | None
) -> None:
    gpus = {"0": gpu(LOCKED), "1": gpu(Setting.UNKNOWN)}
    decision = decide(gpus=gpus, allocations=allocations, claims=claims, lease=FRESH)
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
uuids = st.sampled_from([*"012345", "MIG-1"])


@given(
    st.dictionaries(st.sampled_from("012345"), gpu_state),
    st.none() | st.dictionaries(pod_key, st.lists(uuids, max_size=4)),
    st.none() | st.dictionaries(pod_key, wanted),
    st.sampled_from([FRESH, STALE]),
)
def test_every_decision_is_safe(
    gpus: dict[str, GpuState],
    allocations: dict[PodKey, list[str]] | None,
    claims: dict[PodKey, Wanted] | None,
    lease: LeaseState,
) -> None:
    decision = decide(gpus=gpus, allocations=allocations, claims=claims, lease=lease)
    reset = {command.uuid for command in decision.resets}
    locked = [uuid for command in decision.locks for uuid in command.uuids]
    assert len(locked) == len(set(locked))
    assert not reset & set(locked)
    for lock in decision.locks:
        assert lease.fresh
        assert allocations is not None
        assert claims is not None
        assert set(lock.uuids) == set(allocations[lock.pod])
        for uuid in lock.uuids:
            assert set(lock.clocks) <= set(gpus[uuid].supported_mhz or ())
            assert [pod for pod, held in allocations.items() if uuid in held] == [lock.pod]
    assert all(before.pod != after.pod for before, after in pairwise(decision.locks))
    if not lease.fresh:
        assert reset == {uuid for uuid, state in gpus.items() if state.commanded is not Setting.DEFAULT}
    if allocations is not None and claims is not None:
        for pod in claims:
            settings = {gpus[uuid].commanded for uuid in allocations.get(pod, []) if uuid in gpus and uuid not in reset}
            touched = any(lock.pod == pod for lock in decision.locks)
            assert touched or len(settings) <= 1
