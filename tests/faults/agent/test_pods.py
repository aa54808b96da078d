"""Pods that go, take over and share; claims that cannot be understood."""

import json

import pytest

from .ledger import holds, race, until
from .rig import LOCK

pytestmark = pytest.mark.integration

CONTROL = (6, 7)
RELEASED_S = 2.0
"""Two cycles."""


@pytest.fixture(scope="module")
def shared_rig(new_rig):
    rig = new_rig()
    rig.driver.set_mig(rig.uuids[5], True)
    rig.start()
    rig.place("control", *CONTROL, ceiling_mhz=1500)
    until(lambda: rig.at(1500, *CONTROL))
    return rig


@pytest.fixture
def rig(shared_rig):
    """The pod ``control`` is governed; the others are gone when the test ends."""
    yield shared_rig
    for name in shared_rig.held.keys() - {"control"}:
        shared_rig.remove(name)
    until(lambda: shared_rig.at(1500, *CONTROL) and shared_rig.at_default(0, 1, 2, 3, 4, 5))
    until(lambda: shared_rig.cluster.energy_only().keys() <= {shared_rig.uuids[5]})


@pytest.fixture
def control_holds(rig):
    return lambda: rig.at(1500, *CONTROL)


def test_a_deleted_pod(rig, trial, control_holds):
    rig.place("a", 0, 1, ceiling_mhz=900)
    until(lambda: rig.at(900, 0, 1))
    gone = trial("pod deleted", "its GPUs at default", RELEASED_S)
    rig.cluster.delete_pod("a")  # the kubelet hears of it later
    gone.begin()
    gone.until(lambda: rig.at_default(0, 1), meanwhile=control_holds)


@pytest.mark.parametrize("ceiling_mhz", [None, 1200])
def test_a_handed_over_gpu(rig, trial, control_holds, ceiling_mhz):
    rig.place("a", 0, 1, ceiling_mhz=900)
    until(lambda: rig.at(900, 0, 1))
    outcome = "governed by the new claim" if ceiling_mhz else "at default"
    taken = trial(f"GPU handed over to a pod with {'a' if ceiling_mhz else 'no'} claim", outcome, RELEASED_S)
    rig.remove("a")
    taken.begin()
    rig.place("b", 0, ceiling_mhz=ceiling_mhz)
    taken.until(
        lambda: (rig.at(ceiling_mhz, 0) if ceiling_mhz else rig.at_default(0)) and rig.at_default(1),
        meanwhile=control_holds,
    )


@pytest.mark.parametrize("ceiling_mhz", [None, 1200])
def test_another_pod_of_the_same_name(rig, trial, control_holds, ceiling_mhz):
    rig.place("a", 0, 1, ceiling_mhz=900)
    until(lambda: rig.at(900, 0, 1))
    outcome = "governed by its claim" if ceiling_mhz else "at default"
    replaced = trial(
        f"pod replaced, same name and GPUs, {'another' if ceiling_mhz else 'no'} claim", outcome, RELEASED_S
    )
    rig.cluster.delete_pod("a")
    rig.place("a", 0, 1, ceiling_mhz=ceiling_mhz)
    replaced.begin()
    replaced.until(lambda: rig.at(ceiling_mhz, 0, 1) if ceiling_mhz else rig.at_default(0, 1), meanwhile=control_holds)


def test_a_successor_that_only_the_kubelet_knows(rig, trial, control_holds):
    rig.place("a", 0, 1, ceiling_mhz=900)
    until(lambda: rig.at(900, 0, 1))
    moved = trial("kubelet lists other GPUs for a pod that the API calls the same", "none of them locked", RELEASED_S)
    rig.hold("a", 2, 3)
    moved.begin()
    moved.until(lambda: rig.at_default(0, 1, 2, 3), meanwhile=control_holds)
    holds(lambda: rig.at_default(2, 3), for_s=2.0)


def energy_only(rig, gpu):
    return rig.cluster.energy_only().get(rig.uuids[gpu])


def test_a_shared_gpu(rig, trial, control_holds):
    shared = trial("GPU shared by two claimed pods", "never touched, GPUNode says GPUShared", 5.0)
    locks = rig.driver.calls(LOCK, rig.uuids[0])
    rig.hold("b", 0)  # both before either runs
    rig.place("a", 0, 1, ceiling_mhz=900)
    rig.place("b", 0, ceiling_mhz=900)
    shared.begin()
    shared.until(lambda: energy_only(rig, 0) == energy_only(rig, 1) == "GPUShared", meanwhile=control_holds)
    assert rig.driver.calls(LOCK, rig.uuids[0]) == locks
    assert rig.at_default(0, 1)


@pytest.mark.parametrize(
    ("fault", "reason", "gpus", "ids"),
    [
        ("time slices of a GPU", "GPUShared", (), ("{0}::3",)),
        ("GPU in MIG mode", "MIGEnabled", (5,), ()),
        ("MIG partition of a GPU", "MIGEnabled", (), ("MIG-{0}/1/0",)),
        ("one whole GPU and one unknown UUID", "UnknownDeviceID", (0,), ("GPU-elsewhere",)),
    ],
)
def test_devices_that_are_not_whole_gpus(rig, trial, control_holds, fault, reason, gpus, ids):
    seen = trial(fault, f"never touched, GPUNode says {reason}", 5.0)
    touched = [rig.commands(gpu) for gpu in (0, 5)]
    rig.place("odd", *gpus, ids=[text.format(rig.uuids[0]) for text in ids], ceiling_mhz=900)
    seen.begin()
    seen.until(
        lambda: (
            energy_only(rig, gpus[0] if gpus else 0) == reason
            and rig.agent.metric("dynawatt_agent_claims_refused") == 1
        ),
        meanwhile=control_holds,
    )
    assert [rig.commands(gpu) for gpu in (0, 5)] == touched


@pytest.mark.parametrize(
    ("device_id", "dynamic", "reason"),
    [
        ("0", False, "UnknownDeviceID"),
        ("pool/gpu-0", True, "DRAUnsupported"),
        pytest.param("nvidia0", False, "UnknownDeviceID", marks=pytest.mark.thorough),
        pytest.param("\u2603\n", False, "UnknownDeviceID", marks=pytest.mark.thorough),
    ],
)
def test_a_device_that_may_be_any_gpu(rig, trial, device_id, dynamic, reason):
    fault = "GPU held by a resource claim (DRA)" if dynamic else "device id that may be any GPU"
    seen = trial(fault, f"all of the node at default, GPUNode says {reason}", 3.0)
    rig.place("odd", ids=[device_id], dynamic=dynamic, ceiling_mhz=900)
    seen.begin()
    seen.until(lambda: rig.all_default() and energy_only(rig, CONTROL[0]) == reason)


GARBAGE = (
    lambda claim: "{{not JSON",
    lambda claim: "900",
    lambda claim: "",
    lambda claim: json.dumps(claim | {"service": "x" * 100_000}),
    lambda claim: json.dumps(claim | {"version": 3}),
    lambda claim: json.dumps(claim | {"lease": "elsewhere/dynawatt-operator"}),
    lambda claim: json.dumps(claim | {"floorMegahertz": 1900}),
    lambda claim: json.dumps(claim | {"overclock": True}),
    lambda claim: json.dumps(claim | {"ceilingMegahertz": float("nan")}),
    lambda claim: "[" * 2000,
)


def test_claims_that_cannot_be_understood(rig, trial, control_holds):
    pods = {f"pod-{gpu}": gpu for gpu in range(5)}
    for name, gpu in pods.items():
        rig.place(name, gpu, ceiling_mhz=900)
    for some in (GARBAGE[: len(pods)], GARBAGE[len(pods) :]):
        until(lambda: rig.at(900, *pods.values()))
        spoilt = {}
        for (name, gpu), spoil in zip(pods.items(), some, strict=True):
            rig.cluster.annotate(name, spoil(json.loads(rig.claim(name, 900))))
            found = trial("claim spoilt: garbage, versions, foreign Lease", "its GPU at default, refusal told", 2.0)
            spoilt[found] = lambda gpu=gpu: rig.at_default(gpu)
        race(spoilt, meanwhile=control_holds)
        until(lambda: rig.agent.metric("dynawatt_agent_claims_refused") == len(pods))
        until(lambda: rig.cluster.condition() == ("False", "InvalidClaim"))
        for name in pods:
            rig.reclaim(name, 900)
    until(lambda: rig.cluster.condition() == ("True", "ClaimsApplied"))


def test_clocks_out_of_range(rig, trial, control_holds):
    snapped = trial("claim beyond the GPU's clocks", "snapped to what it supports, counted once", 2.0)
    before = rig.agent.metric("dynawatt_claims_snapped_total")
    claim = json.loads(rig.claim("a", 907)) | {"floorMegahertz": 350}
    rig.place("a", 0, 1, claim=json.dumps(claim))
    snapped.begin()
    snapped.until(lambda: [rig.locked_mhz(gpu) for gpu in (0, 1)] == [(360, 900)] * 2, meanwhile=control_holds)
    rig.cluster.annotate("a", json.dumps(claim | {"floorMegahertz": 100, "ceilingMegahertz": 3000}))
    until(lambda: [rig.locked_mhz(gpu) for gpu in (0, 1)] == [(345, 1980)] * 2)
    holds(control_holds, for_s=1.5)
    assert rig.agent.metric("dynawatt_claims_snapped_total") == before + 2
