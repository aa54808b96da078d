import pytest

from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.api.llmservice import LLMServiceSpec
from dynawatt.controller.figuring import figures_of
from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.metrics.figures import Objective
from dynawatt.controller.runtime import ServiceRuntime

SPEC = LLMServiceSpec.parse(
    {
        "deploymentRef": {"name": "llama"},
        "slo": {
            "percentile": 95,
            "interTokenMilliseconds": 100,
            "timeToFirstToken": [{"maxInputTokens": 256, "milliseconds": 250}, {"milliseconds": 2000}],
        },
    }
)
LOAD = LoadObservation(
    rate_rps=1.0, mix=None, finished_requests=4.0, ttft=[(0.25, 1.0), (2.0, 3.0), (float("inf"), 4.0)], tbt=[]
)


@pytest.fixture
def runtime():
    made = ServiceRuntime(
        uid="u", namespace="prod", name="llama", created="", deployment="llama", load=ServiceLoad(60.0, 300.0)
    )
    made.pods = {"llama-a": "tp1", "llama-0a1b2c-b": "tp2"}
    return made


def test_pods_and_promises_are_told_even_while_nothing_is_known_of_the_load(runtime, draft):
    found = figures_of(runtime, SPEC, draft())
    assert found.pods == {"llama-a": "tp1", "llama-0a1b2c-b": "tp2"}
    assert found.slo_target == 0.95
    assert found.objectives_s == {
        (Objective.TBT, "all"): 0.1,
        (Objective.TTFT, "1-256"): 0.25,
        (Objective.TTFT, "257+"): 2.0,
    }
    assert found.ttft_bounds == {}


def test_bounds_of_an_old_look_are_not_told_while_everything_is_held(runtime, draft):
    runtime.observed = LOAD
    assert figures_of(runtime, SPEC, draft()).ttft_bounds == {}
    runtime.state = object()
    assert figures_of(runtime, SPEC, draft()).ttft_bounds == {"all": (0.25, 0.75)}


def test_a_spec_that_cannot_be_read_promises_nothing(runtime, draft):
    found = figures_of(runtime, None, draft())
    assert (found.slo_target, found.objectives_s, found.ttft_bounds) == (None, {}, {})
