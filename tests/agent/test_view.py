"""What the view of a cycle tells of claims, pods and tokens."""

import pytest

from dynawatt.agent.metering import NOBODY
from dynawatt.api.conditions import Reason
from dynawatt.ports import GpuHealth, PodKey

from .memory_node import Node, claim_text

A, B = PodKey("prod", "a"), PodKey("prod", "b")


def test_a_claim_that_its_gpus_cannot_follow_to_the_letter_is_counted_once(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    assert node.cycle().snapped == 0
    node.place("a", 0, claim=(345, 1207))
    node.place("b", 1, claim=(100, 3000))
    assert node.cycle().snapped == 2
    assert node.locked()[:2] == [(345, 1200), (345, 1980)]
    node.cycle(after_s=31.0, renew=False)  # a claim that does not hold for a while
    node.kubelet_away = True
    node.run(3)
    node.kubelet_away = False
    assert node.run(3).snapped == 2
    node.place("a", 0, claim=(345, 1208))
    assert node.run(3).snapped == 3


@pytest.mark.parametrize(
    ("claim", "locked", "told"),
    [
        ((1201, 1204), (1215, 1215), (1215, 1215)),
        ((100, 200), (345, 345), (345, 345)),
        ((2500, 5000), (1980, 1980), (1980, 1980)),
    ],
)
def test_clocks_out_of_range_are_snapped_and_shown(
    node: Node, claim: tuple[int, int], locked: tuple[int, int], told: tuple[int, int]
) -> None:
    node.place("a", 0, claim=claim)
    view = node.cycle()
    assert node.locked()[0] == locked
    assert (view.gpus[0].claim, view.snapped) == (told, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "clock claim is not valid JSON"),
        ("[" * 100_000, "clock claim has 100000 characters"),
        ('{"version": 1}', "clock claim has version 1: must be 2"),
        (claim_text(1200, 345), "floorMegahertz must be at most ceilingMegahertz"),
        (claim_text(345, 10**9), "ceilingMegahertz: 1000000000"),
        (claim_text(345, 1200, lease="other/lease"), "names the lease 'other/lease'"),
    ],
)
def test_a_claim_that_is_garbage_is_refused_with_the_reason(node: Node, text: str, message: str) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.place("a", 0, claim=text)
    view = node.cycle()
    assert node.locked() == [None] * 4
    assert view.refusals[A].reason is Reason.INVALID_CLAIM
    assert message in view.refusals[A].message
    assert (view.claims, view.cycle_failures) == (1, 0)


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("GPU-elsewhere", Reason.UNKNOWN_DEVICE_ID),
        ("3", Reason.UNKNOWN_DEVICE_ID),
        ("MIG-7", Reason.MIG_ENABLED),
        ("GPU-1::0", Reason.GPU_SHARED),
    ],
)
def test_a_pod_with_a_device_that_is_no_whole_gpu_of_this_node_is_refused(
    node: Node, device: str, reason: Reason
) -> None:
    node.place("a", 0, claim=(345, 1200))
    assert node.allocations is not None
    node.allocations[A].append(device)
    view = node.cycle()
    assert node.locked() == [None] * 4
    assert view.refusals[A].reason is reason


def test_a_gpu_that_is_partitioned_is_left_alone(node: Node) -> None:
    node.gpus[0].health_ = GpuHealth(mig=True)
    node.cycle(after_s=10.0)
    node.place("a", 0, claim=(345, 1200))
    view = node.cycle()
    assert view.refusals[A].reason is Reason.MIG_ENABLED
    assert node.locked() == [None] * 4


def test_a_refusal_is_told_once(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    node.place("a", 0, claim="{}")
    node.run(5)
    assert len([message for message in caplog.messages if message.startswith("claim pod=prod/a honoured=no")]) == 1


def test_pods_without_a_claim_are_read_for_their_tokens(node: Node) -> None:
    node.place("a", 0)
    node.place("b", 1, claim="{}")
    node.run(2)
    assert {pod: (target.port, target.tbt_s) for pod, target in node.targets.items()} == {
        A: (8001, None),
        B: (8001, None),
    }
    before = node.views[-1].serving[A]
    view = node.cycle()
    assert view.serving[A].generation_tokens == before.generation_tokens + 11 * node.loads[A].rate_rps
    assert (view.serving[A].service, view.governed, view.scrape_failures) == ("", {}, 0)


def test_pods_with_a_claim_are_read_where_it_says(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    view = node.cycle()
    assert (node.targets[A].port, node.targets[A].tbt_s) == (8000, 0.1)
    assert view.serving[A].service == "prod/llama"
    node.cycle(after_s=31.0, renew=False)  # no claim holds, and tokens are counted all the same
    assert (node.targets[A].port, node.targets[A].tbt_s) == (8001, None)
    assert node.views[-1].serving[A].service == "prod/llama"


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_are_over_or_hold_no_gpu_or_run_no_vllm_are_not_read(node: Node, phase: str) -> None:
    node.place("a", 0)
    node.place("b", 1, uid="training")
    node.place("c")
    assert node.pods_ is not None
    node.pods_[B]["spec"] = {"containers": [{"name": "train", "command": ["python", "train.py"]}]}
    node.run(2)
    assert node.targets.keys() == {A}
    node.pods_[A]["status"]["phase"] = phase
    node.cycle()
    assert node.targets == {}


def test_only_a_pod_that_serves_counts_as_one_that_could_not_be_read(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.place("b", 1, claim=(345, 1200))
    node.loads[A].problem = node.loads[B].problem = "Connection refused"
    assert node.pods_ is not None
    node.pods_[B]["status"]["conditions"] = []
    assert node.run(2).scrape_failures == 2


def test_a_journal_that_cannot_be_written_is_told(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.disk_full = True
    node.place("b", 1, claim=(345, 1200))
    assert "No space left on device" in node.cycle().journal_problem
    view = node.cycle()
    assert view.refusals[B].reason is Reason.GPU_ERROR
    assert "the journal cannot be written" in view.refusals[B].message
    assert node.locked() == [(345, 1200), None, None, None]
    node.disk_full = False
    assert node.cycle().journal_problem == ""
    node.run(30)
    assert node.locked() == [(345, 1200), (345, 1200), None, None]


def test_view_of_a_shared_gpu_names_both_pods_and_charges_neither(node: Node) -> None:
    node.place("a", 0)
    node.place("b", 0, claim=(345, 1200))
    node.cycle()
    view = node.cycle()
    assert view.gpus[0].pods == (A, B)
    assert view.gpus[0].energy_only is not None
    assert view.gpus[0].energy_only.reason is Reason.GPU_SHARED
    assert view.energy_j["GPU-0", NOBODY] > 0
    assert node.locked() == [None] * 4
