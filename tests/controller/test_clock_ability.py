"""Services whose clocks cannot be set are planned at the default clock."""

from datetime import timedelta

import pytest

from dynawatt.api.conditions import Condition
from dynawatt.api.gpunode import EnergyOnly, GPUNodeStatus, GPUStatus
from dynawatt.controller.clock_ability import default_clock_because

from .conftest import make_pod


def gpu(pod="default/a", control="Supported", energy_only=None, number=0):
    reason = EnergyOnly(reason=energy_only, message="why not") if energy_only else None
    return GPUStatus(
        uuid=f"GPU-{number}", product="NVIDIA H100", clock_control=control, allocated_to=pod, energy_only=reason
    )


@pytest.fixture
def governed(draft):
    """A report on GPUs, with what ClocksGoverned says since some minutes."""

    def make(*gpus, status="True", reason="NoClaims", minutes=60):
        since = draft().now - timedelta(minutes=minutes)
        condition = Condition(
            type="ClocksGoverned",
            status=status,
            reason=reason,
            message="as it is",
            last_transition_time=since,
            observed_generation=1,
        )
        return GPUNodeStatus(gpus=gpus or [gpu()], conditions=[condition])

    return make


@pytest.fixture
def because(draft):
    def ask(reports, *pods):
        return default_clock_because(pods or [make_pod("a", node="n")], reports, draft().now)

    return ask


def test_gpus_that_can_be_set(because, governed):
    assert because({"n": governed()}) == ""
    assert because({"n": governed(gpu(control="Unknown"))}) == ""
    assert because({"n": GPUNodeStatus()}) == ""


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (gpu(control="Unsupported"), "ClockControlUnsupported: NVIDIA H100 does not let it be set"),
        (gpu(energy_only="MIGEnabled"), "MIGEnabled: why not"),
        (gpu(energy_only="GPUShared"), "GPUShared: why not"),
        (gpu(energy_only="AmbiguousPod"), ""),  # passes
        (gpu(pod=None, control="Unsupported"), "ClockControlUnsupported: NVIDIA H100 does not let it be set"),
        (gpu(pod="default/other", control="Unsupported"), ""),
    ],
)
def test_what_keeps_a_gpu_at_its_default_clock(because, governed, found, why):
    told = f"the clocks of 1 of 1 replicas cannot be set, {why}" if why else ""
    assert because({"n": governed(found, gpu(pod="default/b", number=1))}) == told


@pytest.mark.parametrize(
    ("verdict", "counts"),
    [
        ({"status": "Unknown", "reason": "AgentStopped", "minutes": 6}, True),
        ({"status": "Unknown", "reason": "AgentStopped", "minutes": 5}, False),  # it may be updated
        ({"status": "False", "reason": "JournalUnwritable"}, True),
        ({"status": "False", "reason": "ClockControlUnsupported"}, True),
        ({"status": "False", "reason": "LeaseStale"}, False),  # it was this operator that was away
        ({"status": "False", "reason": "ClocksSwitchedOff"}, False),
    ],
)
def test_what_keeps_a_whole_node_at_its_default_clock(because, governed, verdict, counts):
    told = because({"n": governed(**verdict)})
    assert told == (f"the clocks of 1 of 1 replicas cannot be set, {verdict['reason']} on node n" if counts else "")


def test_a_node_without_an_agent_counts_where_others_have_one(because, governed):
    assert because({}) == ""  # none has come yet
    assert because({"m": governed()}).endswith("no agent has reported on node n")


@pytest.mark.parametrize(("able", "told"), [(0, True), (1, True), (2, False), (3, False)])
def test_most_of_the_replicas_decide(because, governed, able, told):
    pods = [make_pod(f"pod-{number}", node=f"n{number}") for number in range(4)]
    reports = {
        f"n{number}": governed(gpu(f"default/pod-{number}", "Supported" if number < able else "Unsupported"))
        for number in range(4)
    }
    found = because(reports, *pods)
    assert found.startswith(f"the clocks of {4 - able} of 4 replicas cannot be set" if told else "")
    assert bool(found) is told


def test_without_pods_nothing_is_known(governed, draft):
    assert default_clock_because([], {"n": governed()}, draft().now) == ""
