import asyncio

import pytest

from dynawatt.api.base import ClockRange
from dynawatt.api.gpunode import GPUNodeStatus, GPUStatus
from dynawatt.controller.silent_agents import SilentAgents, StuckClocks, stuck_clocks
from dynawatt.ports import MetricsUnavailable, Sample

from .conftest import make_pod


class Answers:
    """Ages by node, one answer after the other, of which the last stays; None where there is none."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def query(self, promql):
        self.asked += 1
        ages_s = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if ages_s is None:
            raise MetricsUnavailable("no answer")
        return [Sample({"node": node}, age_s) for node, age_s in ages_s.items()]


async def silent_after(*answers):
    """What is taken for silent after each of these."""
    agents, found = SilentAgents(Answers(*answers), stale_s=300.0), []
    for _ in answers:
        await agents.look()
        found.append(set(agents.silent))
    return found


async def test_the_first_answer_is_believed_and_later_ones_are_when_they_come_twice():
    assert await silent_after({"a": 300.0, "b": 301.0}) == [{"b"}]
    assert await silent_after({"a": 1.0}, {"a": 400.0}, {"a": 430.0}) == [set(), set(), {"a"}]
    assert await silent_after({"a": 1.0}, {"a": 400.0}, {"a": 2.0}, {"a": 400.0}) == [set()] * 4


async def test_one_that_is_heard_of_is_silent_no_more():
    assert await silent_after({"a": 400.0, "b": 400.0}, {"a": 1.0, "b": 430.0}) == [{"a", "b"}, {"b"}]


async def test_nodes_that_are_not_answered_for_stay_as_they_were():
    assert await silent_after({"a": 400.0}, {}, {"b": 1.0}, {"a": 900.0}, {"a": 1.0}) == [{"a"}] * 4 + [set()]


async def follow(answers, looks):
    """Let the operator's task look so often."""
    metrics = Answers(*answers)
    agents = SilentAgents(metrics, stale_s=0.01)
    task = asyncio.create_task(agents.run())
    while metrics.asked < looks:
        await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0)
    found = set(agents.silent)
    task.cancel()
    return found


async def test_a_query_that_fails_changes_nothing():
    assert await follow([{"a": 400.0}, None], 5) == {"a"}


async def test_what_comes_first_after_a_failure_is_not_believed_yet():
    assert await follow([None, {"a": 400.0}], 2) == set()
    assert await follow([None, {"a": 400.0}], 3) == {"a"}


async def test_without_prometheus_nothing_is_known():
    agents = SilentAgents(None, stale_s=300.0)
    await agents.look()
    assert agents.silent == frozenset()


def report(*gpus):
    """Of GPUs, each with its pod and the lowest clock of the claim that it is kept within."""
    return GPUNodeStatus(
        gpus=[
            GPUStatus(
                uuid=f"GPU-{number}",
                product="NVIDIA H100",
                clock_control="Supported",
                allocated_to=pod,
                claim=floor_mhz and ClockRange(min_megahertz=floor_mhz, max_megahertz=1980),
            )
            for number, (pod, floor_mhz) in enumerate(gpus)
        ]
    )


@pytest.mark.parametrize(
    ("gpus", "clock_mhz"),
    [
        ([("default/a", 1200)], 1200),
        ([("default/a", 1200), ("default/a", 1100), ("default/b", 900)], 1100),
        ([("default/a", None), ("default/b", 900)], None),  # an agent that stopped in order has reset it
        ([("default/b", 900), ("default/c", 1500)], 900),  # it came later, and may have got any of them
        ([(None, None)], None),
        ([], None),
    ],
)
def test_what_an_agent_reported_last_is_what_it_left(gpus, clock_mhz):
    found = stuck_clocks([make_pod("a", node="n")], {"n": report(*gpus)}, {"n"})
    assert found == (None if clock_mhz is None else StuckClocks(["n"], clock_mhz))


def test_only_nodes_of_the_service_whose_agents_are_silent_count():
    pods = [make_pod(name, node=name) for name in ("a", "b", "c")]
    reports = {
        node: report((f"default/{node}", floor_mhz)) for node, floor_mhz in (("a", 800), ("b", 1500), ("d", 700))
    }
    assert stuck_clocks(pods, reports, set()) is None
    assert stuck_clocks(pods, reports, {"b", "c", "d"}) == StuckClocks(["b"], 1500)
    assert stuck_clocks(pods, reports, {"a", "b"}) == StuckClocks(["a", "b"], 800)
    assert stuck_clocks([], reports, {"a", "b"}) is None


@pytest.mark.parametrize(
    ("count", "told"), [(1, "n0"), (3, "n0, n1, n2"), (4, "n0, n1, n2 and 1 more"), (9, "n0, n1, n2 and 6 more")]
)
def test_at_most_three_nodes_are_named(count, told):
    stuck = StuckClocks([f"n{number}" for number in range(count)], 1200)
    assert str(stuck) == f"no agent is heard of on {told}: GPUs there may be locked at 1200 MHz"
