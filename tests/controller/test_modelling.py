import asyncio
import math
from dataclasses import replace

import numpy as np
import pytest

from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.gpunode import GPUNodeStatus, GPUStatus
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.controller import modelling
from dynawatt.controller.choosing import ShapeChoice
from dynawatt.controller.draft import Hold
from dynawatt.controller.inventory import Inventory, take_inventory
from dynawatt.controller.learnt import Learnt
from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.modelling import Modeller
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.shape_models import PRIOR_CV, PRIOR_MIX
from dynawatt.controller.silent_agents import StuckClocks
from dynawatt.controller.target import read_target
from dynawatt.controller.tick import Tick
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.planning.planner import UnitCommitmentPlanner
from dynawatt.ports import MetricsUnavailable
from dynawatt.workload.mix import LengthMix

from .memory import make_node

EPOCH_S = 1767225600.0  # 2026-01-01T00:00:00Z, when the pods were created
SETTINGS = OperatorSettings(prometheus_url="http://unused", namespace="system", rate_window_s=10, peak_window_s=60)
SURFACE = Surface(1, 70.0, 110.0, {1980: [SurfacePoint(0, 1, 1, 0, 0, 100), SurfacePoint(9, 1, 1, 0, 0, 500)]})
SPEC = LLMServiceSpec.parse(
    {
        "deploymentRef": {"name": "llama"},
        "knobs": ["Clock", "Replicas"],
        "slo": {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 1000}]},
        "replicas": {"min": 1, "max": 6},
    }
)


class Surfaces:
    def __init__(self):
        self.answer, self.questions = SURFACE, []

    def get(self, question):
        self.questions.append(question)
        return self.answer

    def run_aside(self, work):
        return asyncio.get_running_loop().run_in_executor(None, work)


def modeller(world):
    return Modeller(world, world.surfaces, ShapeChoice(None), Learnt(), SETTINGS)


def tick(world, spec=None):
    return Tick(world.runtime, spec or world.spec, world.target, world.inventory, world.described, world.stuck)


@pytest.fixture
def world(monkeypatch, workload, pod, draft):
    class World:
        now_s = 0.0
        load = LoadObservation(4.0, LengthMix(np.array([1000]), np.array([200])), 500.0, [], [])
        history_: np.ndarray | Exception = np.full(2016, np.nan)
        recent_rps = math.nan
        surfaces = Surfaces()
        runtime = ServiceRuntime(
            uid="llama",
            namespace="default",
            name="llama",
            created="2026-01-01T00:00:00Z",
            deployment="llama",
            load=ServiceLoad(SETTINGS.rate_window_s, SETTINGS.peak_window_s),
            product="NVIDIA-H100-80GB-HBM3",
        )
        described = draft()
        spec = SPEC
        inventory = Inventory([], {})
        stuck = None
        target = read_target(workload(pod("a"), replicas=4), name="llama", container=None)

        async def look(self, now_s):
            self.now_s = now_s
            asked = modeller(self)
            try:
                return await asked.look(tick(self), may_scale=True)
            finally:
                await asyncio.gather(*asked._learning)

        async def observe(self, question):
            self.question = question
            return self.load

        async def history(self, question, *, until_s, slot_s, slots):
            if slot_s == SETTINGS.rate_window_s:
                assert until_s == EPOCH_S + self.now_s
                return until_s - slot_s * slots - 5, np.full(slots, self.recent_rps * slot_s)  # the last whole one
            assert until_s == EPOCH_S + self.now_s - SETTINGS.rate_window_s
            if isinstance(self.history_, Exception):
                raise self.history_
            return EPOCH_S - 300.0 * len(self.history_), self.history_

    world = World()
    monkeypatch.setattr(modelling.time, "time", lambda: EPOCH_S + world.now_s)
    return world


async def test_nothing_is_planned_before_the_rate_window_is_full(world):
    with pytest.raises(Hold, match="observed for 10 s"):
        await world.look(0.0)
    with pytest.raises(Hold, match="observed for 10 s"):
        await world.look(9.0)
    state = await world.look(10.0)
    assert state.present_rps == 4.0
    assert state.demand.high_rps[0] > 4.0
    assert (state.may_reshape, state.may_scale, state.fixed_clock) == (False, True, None)


async def look_twice(world):
    with pytest.raises(Hold, match="observed for 10 s"):
        await world.look(0.0)
    return await world.look(10.0)


async def test_it_is_planned_on_the_nodes_that_its_pods_may_use(world):
    nodes = [make_node("a"), make_node("b"), make_node("c")]
    nodes[1]["spec"]["taints"] = [{"key": "pool", "effect": "NoSchedule"}]
    nodes[2]["metadata"]["labels"]["nvidia.com/gpu.product"] = "NVIDIA-A100-SXM4-80GB"
    world.inventory = take_inventory(nodes, [])
    assert (await look_twice(world)).nodes == {"a"}


@pytest.mark.parametrize(
    ("control", "knobs", "stuck_mhz", "clock_mhz", "told"),
    [
        ("Supported", ["Clock", "Replicas"], None, None, ""),
        ("Unsupported", ["Clock", "Replicas"], None, math.inf, "the clocks of 1 of 1 replicas cannot be set, "),
        ("Unsupported", ["Replicas"], None, math.inf, ""),  # nobody wanted it
        ("Supported", ["Clock", "Replicas"], 1200, 1200, "no agent is heard of on n: GPUs there may be locked at 1200"),
        ("Supported", ["Replicas"], 1200, 1200, "no agent is heard of on n: "),  # it was locked before
        ("Unsupported", ["Clock", "Replicas"], 1200, 1200, "no agent is heard of on n: "),
        ("Supported", ["Clock", "Replicas"], 1980, None, ""),  # no replica limits the others
    ],
)
async def test_where_no_clock_can_be_set_it_is_planned_at_one(world, control, knobs, stuck_mhz, clock_mhz, told):
    gpu = GPUStatus(uuid="GPU-1", product="H100", clock_control=control, allocated_to="default/a")
    world.inventory = Inventory([], {}, {"n": GPUNodeStatus(gpus=[gpu])})
    world.spec = LLMServiceSpec.parse(SPEC.to_dict() | {"knobs": knobs})
    world.stuck = StuckClocks(["n"], stuck_mhz) if stuck_mhz else None
    fixed = (await look_twice(world)).fixed_clock
    assert (fixed and fixed.clock_mhz) == clock_mhz
    assert (fixed.because if fixed else "").startswith(told)
    assert bool(fixed and fixed.because) is bool(told)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["--model=nobody/knows-1b"], "no profile for model 'nobody/knows-1b'"),
        (["--quantization=awq"], "no profile for weights in awq"),
        (["--max-num-batched-tokens=1m"], "--max-num-batched-tokens is 1000000: profile .* covers"),
        (["--max-num-seqs=5000"], "--max-num-seqs is 5000: profile .* covers"),
        (["--tensor-parallel-size=3"], "tensor parallelism 3"),
    ],
)
async def test_what_no_profile_covers_is_said_in_the_condition(world, workload, pod, args, problem):
    described = workload(pod("a"), replicas=4, args=args)
    world.target = read_target(described, name="llama", container=None)
    with pytest.raises(Hold, match=problem) as caught:
        await world.look(0.0)
    assert caught.value.condition[:3] == (ConditionType.PROFILE_AVAILABLE, False, Reason.NO_PROFILE)


async def test_defaults_of_vllm_depend_on_the_gpu(world, pod):
    with pytest.raises(Hold):
        await world.look(0.0)
    question = world.surfaces.questions[-1]
    assert question.replica.model.name == "llama-3.1-8b-bf16-h100-sxm"
    assert (question.settings.max_num_batched_tokens, question.settings.max_num_seqs) == (8192, 1024)


async def test_surfaces_are_fine_at_the_slo_and_at_what_is_planned_for_it(world):
    with pytest.raises(Hold):
        await world.look(0.0)
    question = world.surfaces.questions[-1]
    assert question.attainments == pytest.approx((0.99, 0.9935))
    assert question.cv == PRIOR_CV > 1
    assert question.clocks_mhz[-1] == 1980


async def test_replicas_are_kept_until_a_peak_could_have_been_seen(world):
    for now_s in (0.0, 9.0):
        with pytest.raises(Hold):
            await world.look(now_s)
    assert (await world.look(30.0)).min_replicas == 4
    assert (await world.look(60.0)).min_replicas == 1


@pytest.mark.parametrize(
    ("pods", "now_s", "ready", "starting"),
    [
        ([{}], 10.0, 0, 4),  # three pods are yet to be created
        ([{"ready": "2026-01-01T00:00:20Z"}] * 2, 30.0, 2, 2),
        ([{"ready": "2026-01-01T00:00:20Z"}] * 5, 30.0, 4, 0),  # one is yet to be told to stop
        ([{"ready": "2026-01-01T00:00:20Z"}] * 2 + [{}] * 2, 50.0, 2, 2),
        ([{"ready": "2026-01-01T00:00:20Z"}] * 2 + [{}] * 2, 90.0, 2, 0),  # four times as long as the others took
        ([{"ready": "2026-01-01T00:00:20Z"}] * 2 + [{"deleted": True}], 90.0, 2, 2),
    ],
)
async def test_replicas_that_serve_and_that_are_to_serve(world, workload, pod, pods, now_s, ready, starting):
    world.target = read_target(workload(*(pod(**each) for each in pods), replicas=4), name="llama", container=None)
    with pytest.raises(Hold):
        await world.look(now_s - 10.0)
    state = await world.look(now_s)
    assert (state.ready, state.starting) == ({"tp1": ready}, {"tp1": starting})


async def test_a_curve_is_made_again_only_when_something_about_it_changed(world, workload, pod):
    with pytest.raises(Hold):
        await world.look(0.0)
    first, again = [(await world.look(now_s)).curves["tp1"] for now_s in (10.0, 20.0)]
    assert first is again
    assert first.most_replicas == 6
    quick = workload(*(pod(name, ready="2026-01-01T00:00:20Z") for name in "bcd"), replicas=8)
    world.target = read_target(quick, name="llama", container=None)
    other = (await world.look(30.0)).curves["tp1"]
    assert (other.startup_s, other.most_replicas) == (20.0, 8)


async def test_a_service_without_requests_is_held_but_its_model_is_prepared(world):
    world.load = LoadObservation(0.0, None, 0.0, [], [])
    with pytest.raises(Hold, match="no request has finished yet"):
        await world.look(0.0)
    assert [question.mix_bin for question in world.surfaces.questions] == [PRIOR_MIX.bin()]


async def test_few_requests_count_little_against_the_prior(world):
    long = LengthMix(np.array([8000]), np.array([1000]))
    bins = []
    for finished in (0.5, 5000.0):
        world.load = LoadObservation(4.0, long, finished, [], [])
        with pytest.raises(Hold):
            await world.look(0.0)
        bins.append(world.surfaces.questions[-1].mix_bin)
    prior = PRIOR_MIX.bin()
    assert max(abs(a - b) for a, b in zip(bins[0], prior, strict=True)) <= 1
    assert bins[1] == long.bin() != prior


OFFERED = (0.0, 4.0, 8.0)
ROWS = {
    mhz: [SurfacePoint(rate, 1, 1, 0.1, 0.02, watts + rate, tbt_p50_s=0.02) for rate in OFFERED]
    + [SurfacePoint(8.1, 0.5, 0.5, 9, 1, watts + 9)]
    for mhz, watts in ((900, 100), (1980, 300))
}


@pytest.fixture
async def planned(world):
    """A world whose service was looked at, and the plan for it."""
    world.surfaces.answer = Surface(1, 70.0, 110.0, ROWS)
    for now_s in (0.0, 9.0):
        with pytest.raises(Hold):
            await world.look(now_s)
    [plan] = UnitCommitmentPlanner().plan({"": await world.look(10.0)}, None).values()
    return world, plan


def terms(world, plan, spec=SPEC):
    return modeller(world).clock_terms(tick(world, spec), plan).get("tp1")


async def test_terms_for_governors_come_from_the_surface_and_the_slo(planned):
    found = terms(*planned)
    assert found.ceiling_mhz == 1980
    assert [(row.clock_mhz, row.load_rps) for row in found.table.rows] == [(900, pytest.approx(8.0, rel=0.01))]
    assert (found.table.attainment, found.table.tbt_s, found.table.judges_ttft) == (0.99, 0.1, True)
    # Of the service's requests, blended with few of the prior.
    assert found.table.prompt_tokens == pytest.approx(1000, rel=0.05)


async def test_objectives_by_length_cannot_be_judged_in_vllms_histogram(planned):
    ttft = [{"maxInputTokens": 256, "milliseconds": 250}, {"milliseconds": 2000}]
    slo = {"interTokenMilliseconds": 100, "timeToFirstToken": ttft}
    spec = LLMServiceSpec.parse({"deploymentRef": {"name": "llama"}, "slo": slo})
    assert not terms(*planned, spec).table.judges_ttft


async def test_terms_stay_the_same_while_only_the_lengths_of_requests_vary(planned):
    world, plan = planned
    found = modeller(world).clock_terms(tick(world), plan)
    world.runtime.terms = found
    world.runtime.mix = LengthMix(world.runtime.mix.input_tokens + 1, world.runtime.mix.output_tokens)
    assert modeller(world).clock_terms(tick(world), plan) is found
    other = replace(plan, replicas=plan.replicas + 1)
    assert modeller(world).clock_terms(tick(world), other) is not found


async def test_no_terms_when_no_clock_meets_the_slo(planned):
    world, plan = planned
    bad = [SurfacePoint(rate, 0.5, 0.5, 9, 1, 100) for rate in OFFERED]
    world.runtime.book.surfaces["tp1"] = Surface(1, 70.0, 110.0, {900: bad, 1980: bad})
    assert terms(world, plan) is None


async def expected_rps(world):
    for now_s in range(0, 80, 10):
        try:
            state = await world.look(float(now_s))
        except Hold:
            continue
    return state.demand.expected_rps


async def test_after_a_restart_the_last_minutes_count_as_watched(world):
    world.recent_rps = 7.0
    state = await world.look(0.0)
    assert state.present_rps == 4.0
    assert state.demand.high_rps[0] >= 7.0  # a peak that was before the start
    assert state.min_replicas == 1  # and so long ago that replicas may be taken away


async def test_the_forecast_begins_with_what_prometheus_has_kept(world):
    hours = np.arange(2016) // 12 % 24
    world.history_ = 300.0 * np.where(hours < 1, 4.0, 40.0)  # the pods are looked at at midnight
    expected = await expected_rps(world)
    assert expected[3:9] == pytest.approx(np.full(6, 4.0), rel=0.2)  # edges are smoothed
    assert expected[-1] == pytest.approx(40.0, rel=0.2)


@pytest.mark.parametrize("history", [MetricsUnavailable("no range queries here"), np.full(2016, np.nan), np.ones(11)])
async def test_it_goes_without(world, history):
    world.history_ = history
    assert await expected_rps(world) == pytest.approx(np.full(24, 4.0), rel=0.1)
