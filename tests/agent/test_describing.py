from datetime import UTC, datetime
from typing import Any

import pytest

from dynawatt.agent.describing import node_status
from dynawatt.agent.enforcing import ClockRange, Setting
from dynawatt.agent.governing import Governed
from dynawatt.agent.lease import LeaseState
from dynawatt.agent.refusal import Refusal
from dynawatt.agent.view import NodeView
from dynawatt.api.conditions import Condition, Reason
from dynawatt.api.gpunode import ClockControl, GPUNodeStatus, GPUStatus
from dynawatt.ports import ClockMethod, EnergySource, GpuHealth, PodKey

from .views import HEALTH, READING, A, B, gpu_view, node_view

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
STALE = LeaseState(fresh=False, age_s=31.0, reason="the operator's lease was not renewed for its 30 s")


def status_of(view: NodeView) -> GPUNodeStatus:
    return node_status(view, previous=GPUNodeStatus(), now=NOON)


def gpu_status(**changes: Any) -> GPUStatus:
    return status_of(node_view(gpu_view(**changes))).gpus[0]


def clocks_governed(*gpus: Any, **changes: Any) -> Condition:
    (condition, _) = status_of(node_view(*gpus, **changes)).conditions
    assert condition.type == "ClocksGoverned"
    return condition


def gpus_healthy(*gpus: Any, **changes: Any) -> Condition:
    (_, condition) = status_of(node_view(*gpus, **changes)).conditions
    assert condition.type == "GPUsHealthy"
    return condition


def test_a_governed_gpu() -> None:
    governed = gpu_status(pods=(A,), commanded=ClockRange(345, 810), claim=ClockRange(345, 1200))
    assert governed.to_dict() == {
        "uuid": "GPU-0",
        "product": "NVIDIA-H100-80GB-HBM3",
        "clockControl": "Supported",
        "clockMethod": "LockedClocks",
        "minClockMegahertz": 345,
        "maxClockMegahertz": 1980,
        "energySource": "Counter",
        "allocatedTo": "prod/a",
        "claim": {"minMegahertz": 345, "maxMegahertz": 1200},
        "health": "Healthy",
        "xids": [],
        "persistenceMode": "Enabled",
        "computeMode": "Default",
    }


def test_a_gpu_that_says_little() -> None:
    silent = gpu_status(
        supported_mhz=None,
        clock_method=ClockMethod.NONE,
        energy_source=EnergySource.INTEGRATED,
        reading=None,
        health=None,
    )
    assert silent.to_dict() == {
        "uuid": "GPU-0",
        "product": "NVIDIA-H100-80GB-HBM3",
        "clockControl": "Unknown",
        "energySource": "Integrated",
        "health": "Unhealthy",
        "healthMessage": "it does not answer",
        "xids": [],
    }


@pytest.mark.parametrize("method", ClockMethod)
@pytest.mark.parametrize("source", EnergySource)
def test_every_kind_of_gpu_has_a_status(method: ClockMethod, source: EnergySource) -> None:
    status = gpu_status(clock_method=method, energy_source=source)
    told = (status.clock_method, status.energy_source)
    assert told == (None if method is ClockMethod.NONE else method.value, source.value.capitalize())


def test_a_gpu_without_clocks_to_set() -> None:
    assert gpu_status(supported_mhz=()).clock_control is ClockControl.UNSUPPORTED


def test_a_shared_gpu() -> None:
    shared = gpu_status(pods=(A, B), energy_only=Refusal(Reason.GPU_SHARED, "2 pods hold it"))
    assert shared.allocated_to == "prod/a"
    assert shared.energy_only is not None
    assert (shared.energy_only.reason, shared.energy_only.message) == ("GPUShared", "2 pods hold it")


def test_an_unhealthy_gpu() -> None:
    status = gpu_status(health=HEALTH._replace(ecc_uncorrected=2, xids={79: 3, 31: 1}, persistence=False))
    assert (status.health, status.health_message) == ("Unhealthy", "uncorrected ECC errors, XID 79")
    assert (status.xids, status.persistence_mode) == ([31, 79], "Disabled")


def test_a_storm_of_xids_fits_the_status() -> None:
    assert len(gpu_status(health=HEALTH._replace(xids=dict.fromkeys(range(200), 1))).xids) == 32


def test_summary() -> None:
    claimed = gpu_view("GPU-0", pods=(A,), commanded=ClockRange(345, 810), claim=ClockRange(345, 1200))
    shared = gpu_view("GPU-1", pods=(A, B), energy_only=Refusal(Reason.GPU_SHARED, "2 pods hold it"))
    summary = status_of(node_view(claimed, shared, gpu_view("GPU-2"))).summary
    assert (summary.gpu_count, summary.allocated, summary.claimed, summary.energy_only) == (3, 2, 1, 1)


def test_what_moves_by_the_second_is_not_written() -> None:
    def view(second: int) -> NodeView:
        health = HEALTH._replace(ecc_corrected=7 * second, ecc_uncorrected=1 + second, xids={63: 1 + second})
        reading = READING._replace(clock_mhz=800.0 + second, power_w=90.0 + second, temperature_c=40.0 + second)
        commanded = ClockRange(345, 345 + 15 * second)
        gpu = gpu_view(pods=(A,), health=health, reading=reading, commanded=commanded, claim=ClockRange(345, 1980))
        lease = LeaseState(fresh=True, age_s=float(second), reason="")
        governed = {A: Governed(345 + 15 * second, "load", "")}
        return node_view(gpu, lease=lease, governed=governed, claims=1, commands=second, cycle_failures=second)

    assert status_of(view(1)) == status_of(view(2))


@pytest.mark.parametrize(
    ("changes", "status", "reason", "message"),
    [
        ({}, "True", "NoClaims", "No GPU is claimed; all run at their default clocks."),
        ({"claims": 1}, "True", "ClaimsApplied", "All claimed GPUs are kept within their claims."),
        (
            {"claims": 2, "refusals": {B: Refusal(Reason.GPU_SHARED, "2 pods hold GPU-0")}},
            "False",
            "GPUShared",
            "Claims without effect: prod/b: 2 pods hold GPU-0.",
        ),
        (
            {"claims": 1, "governed": {A: Governed(1980, "blind", "HTTP 503")}},
            "True",
            "ClaimsApplied",
            "GPUs of pods whose metrics cannot be read are at their ceiling: prod/a: HTTP 503.",
        ),
        (
            {"switched_off": "ConfigMap dynawatt-switch has enabled: 'false'", "lease": STALE},
            "False",
            "ClocksSwitchedOff",
            "All clocks are at default: ConfigMap dynawatt-switch has enabled: 'false'.",
        ),
        (
            {"lease": STALE, "refusals": {A: Refusal(Reason.LEASE_STALE, STALE.reason)}},
            "False",
            "LeaseStale",
            "All clocks are at default: the operator's lease was not renewed for its 30 s.",
        ),
        (
            {"allocations_problem": "kubelet is away"},
            "Unknown",
            "AllocationsUnavailable",
            "Clocks are held as they are for 10 s, then brought back to default: kubelet is away.",
        ),
        (
            {"journal_problem": "No space left on device"},
            "False",
            "JournalUnwritable",
            "No further GPU is locked: No space left on device.",
        ),
        (
            {"stopped": True, "lease": STALE},
            "Unknown",
            "AgentStopped",
            "The agent of this node stopped and brought all clocks back to default.",
        ),
    ],
)
def test_clocks_governed(changes: dict[str, Any], status: str, reason: str, message: str) -> None:
    condition = clocks_governed(**changes)
    assert (condition.status, condition.reason, condition.message) == (status, reason, message)


def test_a_gpu_whose_clocks_are_not_known_comes_first() -> None:
    condition = clocks_governed(gpu_view("GPU-3", commanded=Setting.UNKNOWN), stopped=True, lease=STALE)
    assert (condition.status, condition.reason) == ("False", "GPUError")
    assert condition.message == "The clocks of GPU-3 could be neither set nor reset."


def test_many_refusals_are_counted() -> None:
    refusals = {PodKey("prod", f"pod-{index}"): Refusal(Reason.INVALID_CLAIM, "no JSON") for index in range(5)}
    message = clocks_governed(claims=5, refusals=refusals).message
    assert "pod-2: no JSON" in message
    assert "pod-3" not in message
    assert message.endswith("; and 2 more.")


@pytest.mark.parametrize(
    ("health", "status", "reason", "message"),
    [
        (HEALTH, "True", "AllHealthy", "All GPUs answer and show no error that calls for a reset."),
        (GpuHealth(), "True", "AllHealthy", "All GPUs answer and show no error that calls for a reset."),
        (HEALTH._replace(xids={79: 2}, persistence=False), "False", "GPUUnhealthy", "GPU-1: XID 79."),
        (None, "Unknown", "HealthUnknown", "Error counts are not known yet of GPU-1."),
        (
            HEALTH._replace(row_remap_pending=True, persistence=False),
            "True",
            "RowRemapPending",
            "Memory rows wait for a reset of GPU-1 to be replaced.",
        ),
        (
            HEALTH._replace(persistence=False),
            "True",
            "PersistenceModeOff",
            "The driver forgets clocks and counters with its last client; run `nvidia-smi -pm 1` for GPU-1.",
        ),
    ],
)
def test_gpus_healthy(health: GpuHealth | None, status: str, reason: str, message: str) -> None:
    condition = gpus_healthy(gpu_view("GPU-0"), gpu_view("GPU-1", health=health))
    assert (condition.status, condition.reason, condition.message) == (status, reason, message)


def test_one_unhealthy_gpu_outweighs_what_is_not_known() -> None:
    lost, unread = gpu_view("GPU-0", reading=None, health=None), gpu_view("GPU-1", health=None)
    assert gpus_healthy(lost, unread).message == "GPU-0: it does not answer."


def test_nothing_is_known_of_the_gpus_of_a_stopped_agent() -> None:
    assert gpus_healthy(stopped=True).status == "Unknown"


def test_transition_time_moves_with_the_status_only() -> None:
    first = status_of(node_view())
    second = node_status(node_view(claims=1), previous=first, now=LATER)
    assert second.conditions[0].reason != first.conditions[0].reason
    assert second.conditions[0].last_transition_time == NOON
    stale = node_status(node_view(lease=STALE), previous=second, now=LATER)
    assert [condition.last_transition_time for condition in stale.conditions] == [LATER, NOON]


def test_the_clock_within_a_claim_is_not_written_by_a_node_that_really_cycles(node: Any) -> None:
    pod = node.place("a", 0, claim=(345, 1980))
    before = status_of(node.cycle())
    node.loads[pod].rate_rps = 0.0
    after = status_of(node.run(200))
    assert node.locked()[0] == (345, 810)
    assert after == before
