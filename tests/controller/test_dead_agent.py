"""A service one of whose agents was killed and does not come back: how it is planned, and what is told."""

import pytest

from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.ports import Sample

from .conftest import make_deployment
from .running import CARRIES_RPS, IDLE_W, Running


def row(most_rps, idle_w, busy_w):
    good = [SurfacePoint(rate, 1, 1, 0.1, 0.02, watts) for rate, watts in ((0.0, idle_w), (most_rps, busy_w))]
    return [*good, SurfacePoint(1.01 * most_rps, 0.5, 0.5, 9, 1, busy_w)]


class Agents:
    """What Prometheus has of their last cycles."""

    def __init__(self):
        self.ages_s = {"a": 1.0, "b": 1.0}

    async def query(self, promql):
        return [Sample({"node": node}, age_s) for node, age_s in self.ages_s.items()]


class WithAgents(Running):
    """Is looked after by agents, which are asked for before every tick."""

    def __init__(self, monkeypatch, deployment, **how):
        self.prometheus = Agents()
        super().__init__(monkeypatch, deployment, **how)

    async def tick(self):
        await self.agents.look()
        await super().tick()

    def kill(self, floor_mhz):
        """The agent of node a, whose GPUs were kept within a claim down to this clock."""
        pods = {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in self.cluster.pods_}
        left = {"minMegahertz": floor_mhz, "maxMegahertz": 1980} if floor_mhz else None
        self.cluster.gpunodes_ = [
            gpunode(node, pods.get(node), claim=left if node == "a" else None) for node in ("a", "b", "c", "d")
        ]
        self.prometheus.ages_s["a"] = 400.0


def gpunode(name, pod, *, claim):
    gpu = {"uuid": "GPU-0", "product": "NVIDIA H100", "clockControl": "Supported"}
    gpu |= ({"allocatedTo": f"default/{pod}"} if pod else {}) | ({"claim": claim} if claim else {})
    return {"metadata": {"name": name}, "status": {"gpus": [gpu]}}


@pytest.fixture
def running(monkeypatch):
    """Two replicas on two nodes, which carry 5 requests/s each at the default clock, and 3 at 1200 MHz."""
    running = WithAgents(
        monkeypatch,
        make_deployment(2, gpus=8, writer="dynawatt"),
        nodes="abcd",
        knobs=["Clock", "Replicas"],
        replicas={"min": 1, "max": 4},
    )
    running.surfaces.by_size[8] = Surface(8, 70.0, 110.0, {1200: row(3.0, 640.0, 900.0), 1980: row(5.0, 880.0, 2400.0)})
    running.load_rps = 5.0
    return running


async def test_the_replicas_are_planned_as_if_all_were_locked_until_the_agent_is_back(running):
    await running.run(20)
    assert running.told("ClocksGoverned")[:2] == ("True", "ClaimsApplied")
    assert running.replicas() == {"llama": 2}
    running.kill(1200)
    await running.run(20)
    told = "no agent is heard of on a: GPUs there may be locked at 1200 MHz"
    assert running.told("ClocksGoverned") == ("Unknown", "AgentStale", told)
    decision = running.draft.status.last_decision
    assert (decision.chosen.replicas, decision.chosen.clock_megahertz) == (3, 1200)
    assert decision.message.endswith(f"; at 1200 MHz, because {told}")
    assert running.replicas() == {"llama": 3}
    assert None not in running.cluster.claims()  # the other agents govern as before
    running.prometheus.ages_s["a"] = 1.0
    await running.run(10)
    assert running.told("ClocksGoverned")[:2] == ("True", "ClaimsApplied")
    assert "because" not in running.draft.status.last_decision.message


@pytest.mark.parametrize(("floor_mhz", "reason"), [(None, "ClaimsApplied"), (1980, "AgentStale")])
async def test_clocks_that_are_not_held_down_change_no_plan(running, floor_mhz, reason):
    await running.run(20)
    running.kill(floor_mhz)
    await running.run(10)
    assert running.reason("ClocksGoverned") == reason
    assert running.draft.status.last_decision.chosen.replicas == 2


async def test_while_the_shape_changes_replicas_drain_only_when_the_others_carry_the_load_locked(monkeypatch):
    running = WithAgents(monkeypatch, make_deployment(3, gpus=4), nodes="ab", replicas={"min": 1, "max": 16})
    for size, most_rps in CARRIES_RPS.items():
        idle_w, busy_w = size * IDLE_W[size], size * (IDLE_W[size] + 60.0)
        rows = {1200: row(0.5 * most_rps, 0.9 * idle_w, 0.9 * busy_w), 1980: row(most_rps, idle_w, busy_w)}
        running.surfaces.by_size[size] = Surface(size, 70.0, 110.0, rows)
    running.load_rps = 14.0
    running.kill(1200)
    fewest_rps = []
    running.check = lambda: fewest_rps.append(0.5 * running.carried_rps())
    await running.run(400, until=lambda: running.reshape is not None and running.replicas()["llama"] == 0)
    assert running.serving().keys() > {"llama"}
    assert min(fewest_rps) >= running.load_rps
