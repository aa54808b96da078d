import pytest

from dynawatt.cli.explain.page import page
from dynawatt.cli.layout import plain

from .explaining import flat, told
from .objects import claim, condition, gpu, gpu_node, pod

DEFAULT = {"claim": None}
CLOCKS = {
    "applied": (claim(), [gpu()], None, "applied", True),
    "within what the GPU supports": (
        claim(floor=205),
        [gpu(claim={"minMegahertz": 345})],
        None,
        "applied within 345-1980, what the GPUs support",
        True,
    ),
    "on some": (
        claim(),
        [gpu(), gpu("GPU-2", **DEFAULT)],
        None,
        "not applied on 1 of 2 GPUs, ClaimsApplied: as it is",
        False,
    ),
    "lease stale": (
        claim(),
        [gpu(**DEFAULT)],
        [condition("ClocksGoverned", "False", "LeaseStale", "not renewed")],
        "not applied on 1 of 1 GPUs, LeaseStale: not renewed",
        False,
    ),
    "shared": (
        claim(),
        [gpu(energyOnly={"reason": "GPUShared", "message": "prod/other holds it, too"}, **DEFAULT)],
        None,
        "left alone, GPUShared: prod/other holds it, too",
        False,
    ),
    "unhealthy": (
        claim(),
        [gpu(health="Unhealthy", healthMessage="XID 79")],
        None,
        "1 of 1 GPUs unhealthy: XID 79",
        False,
    ),
    "not seen": (claim(), [gpu(holder="prod/else")], None, "the agent of node gpu-1 sees no GPU of it yet", False),
    "no claim": ("", [gpu(**DEFAULT)], None, "default clocks", True),
    "no claim any more": ("", [gpu()], None, "1 of 1 GPUs still held within 800-1980 MHz", False),
    "of another": (claim("prod/else"), [gpu()], None, "claimed for another LLMService, prod/else", False),
    "unreadable": ("{", [gpu()], None, "InvalidClaim: clock claim is not valid JSON: ", False),
}


@pytest.mark.parametrize(("text", "gpus", "conditions", "verdict", "as_claimed"), CLOCKS.values(), ids=CLOCKS)
def test_claims_against_what_agents_report(text, gpus, conditions, verdict, as_claimed):
    [group] = told(pods=[pod(clock=text)], gpu_nodes={"gpu-1": gpu_node("gpu-1", *gpus, conditions=conditions)}).clocks
    assert group.told.startswith(verdict)
    assert group.told == verdict or verdict.endswith(": ")
    assert group.as_claimed is as_claimed


def test_pods_without_an_agent_or_a_node():
    unscheduled = pod("llama-c", node=None)
    unscheduled["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "message": "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.",
        }
    ]
    groups = told(pods=[pod(node="gpu-9"), unscheduled, pod("llama-d", node=None)]).clocks
    assert {group.pods: group.told for group in groups} == {
        ("llama-a",): "node gpu-9 has no GPUNode: no agent has reported there, clocks are at default",
        ("llama-c",): "not scheduled: 0/4 nodes are available: 4 Insufficient nvidia.com/gpu.",
        ("llama-d",): "not scheduled yet",
    }


def test_pods_of_which_the_same_is_told_stand_together_and_troubles_are_named():
    pods = [pod(f"llama-{letter}") for letter in "abcdef"]
    gpus = [gpu(f"GPU-{each['metadata']['name']}", holder=f"prod/{each['metadata']['name']}") for each in pods]
    for held in gpus[1:]:
        held["claim"] = None
    explained = told(pods=pods, gpu_nodes={"gpu-1": gpu_node("gpu-1", *gpus)})
    assert [(len(group.pods), group.gpus, group.as_claimed) for group in explained.clocks] == [
        (1, 1, True),
        (5, 5, False),
    ]
    assert "(llama-b, llama-c, llama-d and 2 more)" in flat(page(explained, plain))
