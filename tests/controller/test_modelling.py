import numpy as np
import pytest

from dynawatt.adapters.vllm_metrics import LoadObservation
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.controller import modelling
from dynawatt.controller.draft import Hold
from dynawatt.controller.modelling import Modeller
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.controller.settings import OperatorSettings
from dynawatt.controller.target import read_target
from dynawatt.forecast.recent_peak import HighWater, RecentPeakForecast
from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.workload.mix import LengthMix

SETTINGS = OperatorSettings(prometheus_url="http://unused", namespace="system", rate_window_s=10, peak_window_s=60)
SURFACE = Surface(1, 70.0, 110.0, {1980: [SurfacePoint(0, 1, 1, 0, 0, 100), SurfacePoint(9, 1, 1, 0, 0, 500)]})
SHAPE = {"gpuProduct": "NVIDIA-H100-80GB-HBM3", "tensorParallelSize": 1, "desiredReplicas": 4, "readyReplicas": 1}
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
        self.answer, self.bins = SURFACE, []

    def get(self, key, mix):
        self.bins.append(key.mix_bin)
        return self.answer


@pytest.fixture
def world(monkeypatch, workload, pod, draft):
    described = draft({"shapes": [SHAPE]})

    class World:
        now_s = 0.0
        load = LoadObservation(4.0, LengthMix(np.array([1000]), np.array([200])), 500.0, [], [])
        surfaces = Surfaces()
        runtime = ServiceRuntime(
            namespace="default",
            name="llama",
            created="2026-01-01T00:00:00Z",
            deployment="llama",
            forecast=RecentPeakForecast(window_s=SETTINGS.peak_window_s),
            demands=HighWater(SETTINGS.peak_window_s),
        )
        target = read_target(workload(pod("a"), replicas=4), name="llama", container=None)

        async def look(self, now_s):
            self.now_s = now_s
            modeller = Modeller(None, self.surfaces, SETTINGS)
            return await modeller.look(self.runtime, SPEC, self.target, described, may_scale=True)

    world = World()

    async def observe(*args, **kwargs):
        return world.load

    monkeypatch.setattr(modelling, "observe", observe)
    monkeypatch.setattr(modelling.time, "monotonic", lambda: world.now_s)
    return world


async def test_nothing_is_planned_before_the_rate_window_is_full(world):
    with pytest.raises(Hold, match="observed for 10 s"):
        await world.look(0.0)
    with pytest.raises(Hold, match="observed for 10 s"):
        await world.look(9.0)
    assert (await world.look(10.0)).demand_rps > 4.0


async def test_replicas_are_kept_until_a_peak_could_have_been_seen(world):
    for now_s in (0.0, 9.0):
        with pytest.raises(Hold):
            await world.look(now_s)
    assert (await world.look(30.0)).min_replicas == 4
    assert (await world.look(60.0)).min_replicas == 1


async def test_a_service_without_requests_is_held_but_its_model_is_prepared(world):
    world.load = LoadObservation(0.0, None, 0.0, [], [])
    with pytest.raises(Hold, match="no request has finished yet"):
        await world.look(0.0)
    assert world.surfaces.bins == [modelling.PRIOR_MIX.bin()]


async def test_few_requests_count_little_against_the_prior(world):
    long = LengthMix(np.array([8000]), np.array([1000]))
    bins = []
    for finished in (0.5, 5000.0):
        world.load = LoadObservation(4.0, long, finished, [], [])
        with pytest.raises(Hold):
            await world.look(0.0)
        bins.append(world.surfaces.bins[-1])
    assert bins == [modelling.PRIOR_MIX.bin(), long.bin()]
