"""Windows of one live replica whose physics are not its profile's, as a simulation of it tells them."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from dynawatt.adapters.vllm_load.working import PodWork
from dynawatt.api.conditions import find_condition
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.api.llmservice_status import Reshape, ShapeStatus
from dynawatt.controller import calibrating
from dynawatt.controller.calibrating import Calibrator
from dynawatt.controller.figuring import figures_of
from dynawatt.controller.inventory import Inventory
from dynawatt.controller.learnt import Learnt
from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.shape_models import shape_models
from dynawatt.controller.target import Workload, read_target
from dynawatt.controller.tick import Tick
from dynawatt.planning.calibration.comparing import Comparison
from dynawatt.ports import MetricsUnavailable
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape
from dynawatt.workload.builtin import built_in
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

from .conftest import make_deployment, make_pod
from .running import Running, Surfaces

PRODUCT = "NVIDIA-H100-80GB-HBM3"
MIX = built_in("azure-2024-conv").mix(1000)
SPEC = LLMServiceSpec.parse(
    {
        "deploymentRef": {"name": "llama"},
        "knobs": ["Clock"],
        "slo": {"interTokenMilliseconds": 100, "timeToFirstToken": [{"milliseconds": 1000}]},
    }
)
TICK_S = 10.0
RATE_RPS = 4.0


def target(*pods):
    pods = pods or (serving(),)
    return read_target(Workload(make_deployment(replicas=len(pods)), pods), name="llama", container=None)


def serving(name="a", ready="2026-01-01T00:01:00Z", **more):
    return make_pod(name, ready=ready, **more)


MODELS = shape_models(target().settings, PRODUCT, name="tp1")


class Pod:
    """A WorkSource: one replica that runs on and is asked now and then."""

    def __init__(self, time_factor=1.0, power_factor=1.0):
        real = MODELS.replica.calibrated(time_factor=time_factor, power_factor=power_factor)
        self.core = FleetCore([ReplicaShape(real, MODELS.engine)], LatencyObjectives(((None, 2.0),), 0.1))
        self.core.add_replica(0, clock_mhz=1980)
        self.asked = []
        self.changes = {}
        self.fails = False

    async def work(self, question, window_s):
        self.asked.append(question)
        if self.fails:
            raise MetricsUnavailable("Prometheus is away")
        before, core = self.core.tally(), self.core
        rng, begin_s = np.random.default_rng(len(self.asked)), core.now_s
        count = rng.poisson(RATE_RPS * window_s)
        pick = rng.integers(0, len(MIX.input_tokens), count)
        arrival_s = begin_s + np.sort(rng.uniform(0, window_s, count))
        core.advance(begin_s + window_s, Trace(arrival_s, MIX.input_tokens[pick], MIX.output_tokens[pick]))
        did = core.tally() - before
        gaps, gap_sum_s = float(did.gaps.sum()), float(did.gap_sum_s.sum())
        work = PodWork(
            scrapes=4,
            gaps=gaps,
            gap_sum_s=gap_sum_s,
            prompt_tokens=float(did.input_tokens),
            prefills=0.0,
            prefill_sum_s=0.0,
            iterations=did.busy_gpu_s / (gap_sum_s / gaps),
            energy_j=float(did.energy_j.sum()),
            clocks_mhz=(1980,) * 4,
        )
        return {pod.name: replace(work, **self.changes) for pod in question.pods}


class World:
    """A service, looked at every ten seconds."""

    def __init__(self, source, learnt=None):
        self.now_s = 1000.0
        self.learnt = learnt or Learnt()
        self.calibrator = Calibrator(source, self.learnt)
        self.target = target()
        self.told = []
        self.runtime = ServiceRuntime(
            uid="llama",
            namespace="default",
            name="llama",
            created="2026-01-01T00:00:00Z",
            deployment="llama",
            load=ServiceLoad(10, 60),
            product=PRODUCT,
            mix=MIX,
        )
        self.reshape = None

    # As the module under test takes it for the time module.

    def monotonic(self):
        return self.now_s

    async def run(self, duration_s, draft):
        for _ in range(round(duration_s / TICK_S)):
            self.runtime.models = {"tp1": self.learnt.applied(MODELS)}
            draft.status.reshape = self.reshape
            await self.calibrator.look(Tick(self.runtime, SPEC, self.target, Inventory([], {}), draft))
            found = find_condition(draft.status.conditions, "ModelAccurate")
            self.told.append((found.status, found.reason, found.message))
            self.now_s += TICK_S
        return self.told[-1]


@pytest.fixture
def world(monkeypatch):
    def make(source, learnt=None):
        made = World(source, learnt)
        monkeypatch.setattr(calibrating, "time", made)
        return made

    return make


@pytest.mark.parametrize(("time_factor", "power_factor"), [(1.2, 1.15), (1.0, 1.0)])
async def test_models_become_what_the_replicas_are(world, draft, time_factor, power_factor):
    pod = Pod(time_factor, power_factor)
    one, described = world(pod), draft()
    status, reason, message = await one.run(240, described)
    assert (status, reason) == ("Unknown", "NotCalibratedYet")
    assert "are needed" in message
    assert (await one.run(1500, described))[:2] == ("True", "ModelFits")
    replica = one.runtime.models["tp1"].replica
    assert replica.time_factor == pytest.approx(time_factor, abs=0.03)
    assert replica.power_factor == pytest.approx(power_factor, abs=0.03)
    shown = {("tp1", "time"): replica.time_factor, ("tp1", "power"): replica.power_factor}
    described.status.shapes = [
        ShapeStatus(
            deployment="llama", gpu_product=PRODUCT, tensor_parallel_size=1, desired_replicas=1, ready_replicas=1
        )
    ]
    assert figures_of(one.runtime, SPEC, described).calibration == shown
    assert len(pod.asked) <= 1740 / 60


async def test_a_model_that_is_far_off_has_drifted(world, draft):
    status, reason, message = await world(Pod(time_factor=1.6)).run(1800, draft())
    assert (status, reason) == ("False", "ModelDrifted")
    assert message.startswith("tp1: iterations take 1.5 times what the profile says")


async def test_without_prometheus_nothing_is_compared(world, draft):
    one = world(None)
    assert (await one.run(1800, draft()))[:2] == ("Unknown", "NotCalibratedYet")
    assert "takes a Prometheus" in one.told[-1][2]
    assert one.learnt.applied(MODELS).replica.time_factor == 1.0


async def test_a_window_begins_anew_with_every_change(world, draft):
    pod = Pod()
    one, described = world(pod), draft()
    await one.run(60, described)
    assert pod.asked == []
    await one.run(10, described)
    assert len(pod.asked) == 1
    for pods in ([serving("b")], [serving("a")], [serving("a", "2026-01-01T00:09:00Z")]):
        one.target = target(*pods)
        await one.run(60, described)
    assert len(pod.asked) == 1
    await one.run(10, described)
    assert len(pod.asked) == 2


@pytest.mark.parametrize(
    "pods",
    [
        [serving(), make_pod("b")],  # starts
        [serving(), serving("b", deleted=True)],  # drains
        [make_pod("a")],
    ],
)
async def test_replicas_that_come_and_go_tell_nothing(world, draft, pods):
    pod = Pod()
    one = world(pod)
    one.target = target(*pods)
    await one.run(300, draft())
    assert pod.asked == []


@pytest.mark.parametrize(("retry_time", "asked"), [(None, False), (datetime(2026, 1, 1, tzinfo=UTC), True)])
async def test_a_change_of_shape_under_way_tells_nothing(world, draft, retry_time, asked):
    pod = Pod()
    one = world(pod)
    one.reshape = Reshape.model_construct(retry_time=retry_time)
    await one.run(300, draft())
    assert bool(pod.asked) is asked


async def test_the_clock_of_governed_gpus_must_be_known(world, draft):
    pod = Pod()
    pod.changes = {"clocks_mhz": (), "energy_j": None}
    one, described = world(pod), draft()
    claimed = serving()
    claimed["metadata"]["annotations"] = {"dynawatt.dev/clock-claim": "{}"}
    one.target = target(claimed)
    await one.run(900, described)
    assert one.learnt.of(MODELS).state.frozen.startswith("time factor: 0 gaps")
    assert one.runtime.watch.problem == "Prometheus has no dynawatt_gpu_sm_clock_hertz of pod a, which is governed"
    one.target = target()  # at its default clock
    assert (await one.run(1200, described))[:2] == ("True", "ModelFits")
    assert "its watts are not compared yet" in one.told[-1][2]


async def test_windows_with_few_scrapes_become_longer(world, draft):
    pod = Pod()
    pod.changes = {"scrapes": 2}
    one, described = world(pod), draft()
    await one.run(1800, described)
    assert one.runtime.watch.window_s == 240
    assert one.runtime.watch.problem == "fewer than 4 scrapes within 240 s"
    assert len(pod.asked) < 12
    pod.changes = {}
    await one.run(300, described)
    assert one.runtime.watch.problem == ""


async def test_a_prometheus_that_is_away_is_asked_again_a_minute_later(world, draft):
    pod = Pod()
    pod.fails = True
    one = world(pod)
    await one.run(310, draft())
    assert len(pod.asked) == 5
    assert one.runtime.watch.problem == "Prometheus is away"


async def test_the_same_in_other_words_is_not_written_every_minute(world, draft):
    one = world(Pod(time_factor=1.6))
    await one.run(3600, draft())
    assert len(set(one.told)) <= 8


async def test_a_new_operator_does_not_say_the_same_in_other_words(world, draft):
    described = draft()
    pod = Pod()
    pod.fails = True
    before = await world(pod).run(130, described)
    assert before[1] == "NotCalibratedYet"
    after = world(Pod())
    after.runtime.watch.problem = "something else"
    assert await after.run(10, draft(described.status.to_dict())) == before
    assert (await after.run(900, described))[2] != before[2]


class Asked(Surfaces):
    """Those of replicas that are not as their profile says are still being computed."""

    def __init__(self):
        super().__init__()
        self.factors = set()

    def get(self, question):
        self.factors.add(question.replica.time_factor)
        return super().get(question) if question.replica.time_factor == 1.0 else None


async def test_plans_go_on_with_the_old_surface_until_the_new_one_is_there(monkeypatch):
    running = Running(monkeypatch, knobs=["Clock"])
    running.surfaces = asked = Asked()
    running.start()
    await running.run(6)
    assert (running.reason("Ready"), asked.factors) == ("Reconciled", {1.0})
    deployment = Workload(make_deployment(2, gpus=4), [])
    models = shape_models(read_target(deployment, name="llama", container=None).settings, PRODUCT)
    for number in range(12):
        running.learnt.add(models, Comparison(10_000, 1.3, 1.0), 60.0 * number, 60.0)
    await running.run(1)
    assert (running.reason("Ready"), asked.factors) == ("Reconciled", {1.0, 1.275})
    assert running.told("ModelAccurate")[:2] == ("Unknown", "NotCalibratedYet")
