from dataclasses import replace

import numpy as np
import pytest

from dynawatt.controller.load import ServiceLoad
from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.planning.demand import DemandForecast
from dynawatt.planning.service import FixedClock, ServiceState

from .conftest import make_plan

CURVE = object()
STATE = ServiceState(
    curves={"tp1": CURVE},
    ready={"tp1": 2},
    starting={"tp1": 0},
    demand=DemandForecast(np.array([6.0, 5.0]), np.array([10.0, 8.0])),
    present_rps=8.0,
    min_replicas=1,
    max_replicas=4,
)


@pytest.fixture
def runtime():
    runtime = ServiceRuntime("uid", "default", "llama", "2026-01-01T00:00:00Z", "llama", ServiceLoad(10.0, 60.0))
    runtime.state = STATE
    runtime.adopt_plan(make_plan(), STATE, 0.0)
    return runtime


@pytest.mark.parametrize(
    ("now_s", "change", "outgrown"),
    [
        (0.0, {}, False),
        (0.0, {"present_rps": 10.4, "since_change_s": 5.0}, False),
        (0.0, {"present_rps": 10.6}, True),
        (299.0, {"present_rps": 9.0}, False),
        (301.0, {"present_rps": 9.0}, True),  # the plan is ready for less in the next slot
        (9999.0, {"present_rps": 8.3}, False),
        (0.0, {"present_rps": 0.0}, False),
        (0.0, {"ready": {"tp1": 1}}, True),
        (0.0, {"starting": {"tp1": 1}}, True),
        (0.0, {"max_replicas": 3}, True),
        (0.0, {"may_scale": False}, True),
        (0.0, {"fixed_clock": FixedClock()}, True),
        (0.0, {"fixed_clock": FixedClock(1000)}, True),
        (0.0, {"attainment": 0.95}, True),
        (0.0, {"curves": {"tp1": object()}}, True),
    ],
)
def test_outgrown(runtime, now_s, change, outgrown):
    runtime.state = replace(STATE, **change)
    assert runtime.outgrown(now_s) is outgrown


def test_no_load_is_not_outgrown_by_hardly_any(runtime):
    quiet = replace(STATE, demand=DemandForecast(np.zeros(2), np.zeros(2)))
    runtime.adopt_plan(make_plan(), quiet, 0.0)
    runtime.state = replace(quiet, present_rps=0.1)
    assert runtime.outgrown(0.0) is False


def test_nothing_is_planned_while_holding_and_anew_after_forgetting(runtime):
    runtime.state = None
    assert not runtime.outgrown(0.0)
    runtime.forget_plan()
    runtime.state = STATE
    assert runtime.plan is None
    assert runtime.outgrown(0.0)
