import asyncio
from dataclasses import replace

import numpy as np
import pytest

from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.controller import advising
from dynawatt.controller.advising import EngineAdvisor
from dynawatt.controller.inventory import Inventory
from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.shape_models import shape_models
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.target import Workload, read_target
from dynawatt.controller.tick import Tick
from dynawatt.simulation.advice.engine import BetterFlags, EngineFindings
from dynawatt.simulation.energy_tuning import EnergyTuned
from dynawatt.workload.mix import LengthMix

from .conftest import make_deployment
from .running import Running, Surfaces

PRODUCT = "NVIDIA-H100-80GB-HBM3"
SLO = {"interTokenMilliseconds": 50, "timeToFirstToken": [{"milliseconds": 1000}]}
SPEC = LLMServiceSpec.parse({"deploymentRef": {"name": "llama"}, "slo": SLO})
LOAD = LoadObservation(4.0, None, 1000.0, [], [])


def mix(inputs):
    return LengthMix(np.full(50, inputs), np.full(50, 12))


class Worker:
    """Does what it is asked when the test says so."""

    def __init__(self):
        self.futures, self.busy = [], False

    def run_aside(self, work):
        if self.busy:
            return None
        self.work, future = work, asyncio.get_running_loop().create_future()
        self.futures.append(future)
        return future

    async def find(self, chunk=1024):
        """The answer to the last question."""
        question = self.work.args[0]
        present = EnergyTuned(question.settings, 100.0, 2.0)
        better = EnergyTuned(replace(question.settings, max_num_batched_tokens=chunk), 50.0, 3.0)
        self.futures[-1].set_result(EngineFindings(present, BetterFlags(better, 0.25, 0.25), ()))
        await asyncio.sleep(0)


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def advisor(worker):
    return EngineAdvisor(worker)


@pytest.fixture
def service(workload, pod, draft):
    def make(*args, inputs=1000):
        target = read_target(workload(pod("a"), args=["--shutdown-timeout=15", *args]), name="llama", container=None)
        runtime = ServiceRuntime(
            uid="llama",
            namespace="default",
            name="llama",
            created="2026-01-01T00:00:00Z",
            deployment="llama",
            load=ServiceLoad(10, 60),
            models={target.template.shape: shape_models(target.settings, PRODUCT, name=target.template.shape)},
            mix=mix(inputs),
            observed=LOAD,
        )
        return Tick(runtime, SPEC, target, Inventory([], {}), draft())

    return make


def advice(advisor, tick, *, may_search=True):
    advisor.look(tick, may_search=may_search)
    return [flag for each in tick.draft.status.engine_advice for flag in each.flags]


async def test_services_with_equal_replicas_and_mixes_share_an_answer(advisor, worker, service):
    one, two = service(), service()
    assert advice(advisor, one) == advice(advisor, two) == []
    await worker.find()
    assert advice(advisor, one) == advice(advisor, two) == ["--max-num-batched-tokens=1024"]
    assert len(worker.futures) == 1
    assert advice(advisor, service("--max-num-seqs=64")) == []
    assert len(worker.futures) == 2


async def test_it_is_looked_for_again_only_when_the_requests_are_others(advisor, worker, service):
    tick = service()
    advice(advisor, tick)
    await worker.find()
    for inputs in (1000, 1250, 1000):
        tick.runtime.mix = mix(inputs)
        assert advice(advisor, tick) == ["--max-num-batched-tokens=1024"]
    assert len(worker.futures) == 1
    tick.runtime.mix = mix(4000)
    assert advice(advisor, tick) == ["--max-num-batched-tokens=1024"]  # until the answer is there
    await worker.find(chunk=2048)
    assert advice(advisor, tick) == ["--max-num-batched-tokens=2048"]


async def test_few_requests_tell_too_little(advisor, worker, service):
    tick = service()
    tick.runtime.observed = replace(LOAD, finished_requests=999.0)
    advice(advisor, tick)
    assert worker.futures == []


async def test_a_worker_that_has_no_time_is_asked_again_later(advisor, worker, service):
    tick = service()
    worker.busy = True
    advice(advisor, tick)
    worker.busy = False
    advice(advisor, tick, may_search=False)
    assert worker.futures == []
    advice(advisor, tick)
    await worker.find()
    assert advice(advisor, tick, may_search=False) == ["--max-num-batched-tokens=1024"]


async def test_a_failure_is_left_alone_for_a_while(advisor, worker, service, monkeypatch):
    tick = service()
    for pause_s, asked_in_all in ((3600.0, 1), (0.0, 3)):
        monkeypatch.setattr(advising, "_PAUSE_S", pause_s)
        advice(advisor, tick)
        worker.futures[-1].set_exception(MemoryError())
        for _ in range(3):
            await asyncio.sleep(0)
        assert advice(advisor, tick) == []
        assert len(worker.futures) == asked_in_all
        tick = service(inputs=4000)


async def test_answers_not_asked_for_longest_are_forgotten(advisor, worker, service, monkeypatch):
    monkeypatch.setattr(advising, "_MOST_ANSWERS", 2)
    for inputs in (1000, 4000, 16000):
        advice(advisor, service(inputs=inputs))
        await worker.find()
    for inputs in (16000, 4000):
        assert advice(advisor, service(inputs=inputs))
    assert len(worker.futures) == 3
    advice(advisor, service(inputs=1000))
    assert len(worker.futures) == 4


async def test_the_shape_that_most_replicas_have_is_advised_on(advisor, worker, service):
    tick = service()
    sibling = make_deployment(3, gpus=2)
    sibling["metadata"]["name"] = "llama-abcdef"
    larger = read_target(Workload(sibling, []), name="llama-abcdef", container=None).template
    two = shape_models(replace(tick.target.settings, tensor_parallel_size=2), PRODUCT, name="tp2")
    tick.runtime.models = {**tick.runtime.models, "tp2": two}
    advice(advisor, replace(tick, target=replace(tick.target, siblings=[larger])))
    assert worker.work.args[0].replica.tensor_parallel == 2


class Spare(Surfaces):
    """Surfaces out of nothing, and a real worker process that has nothing else to do."""

    def __init__(self):
        super().__init__()
        now_s = iter(range(0, 10_000, 60))
        self.store, self.works = SurfaceStore(now_s=lambda: next(now_s)), 0

    def run_aside(self, work):
        future = self.store.run_aside(work)
        self.works += future is not None
        return future

    def close(self):
        self.store.close()


class Advised(Running):
    async def observe(self, question):
        return LoadObservation(self.load_rps, mix(2000), 5000.0, [], [])

    @property
    def flags(self):
        return [flag for each in self.draft.status.engine_advice if not each.needs_plug_in for flag in each.flags]

    async def until(self, holds):
        for _ in range(900):
            await self.tick()
            if holds():
                return
            await asyncio.sleep(0.1)
        raise AssertionError("not so after 90 s")


async def test_flags_are_found_by_simulation_and_no_more_once_they_are_set(monkeypatch):
    running = Advised(monkeypatch, make_deployment(2), mode="Recommend", slo=SLO)
    running.surfaces = Spare()
    running.start()
    try:
        await running.until(lambda: running.flags)
        [chunk] = [flag for flag in running.flags if flag.startswith("--max-num-batched-tokens=")]
        assert 256 <= int(chunk.partition("=")[2]) < 8192  # vLLM's default, whose steps take too long
        told = running.status["engineAdvice"]
        await running.tick()
        assert (running.status["engineAdvice"], running.surfaces.works) == (told, 1)
        [container] = running.cluster.deployment_["spec"]["template"]["spec"]["containers"]
        container["args"] += running.flags
        await running.tick()
        assert running.status["engineAdvice"] == []  # it was about other flags
        await running.until(lambda: running.surfaces.works == 2)  # asked anew, about these
    finally:
        running.operator.close()
