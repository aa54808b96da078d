from dataclasses import replace

import pytest

from dynawatt.controller.runtime import ServiceRuntime
from dynawatt.forecast.recent_peak import HighWater, RecentPeakForecast
from dynawatt.perfmodel.surface import Surface
from dynawatt.planning.plan import ServiceState

STATE = ServiceState(
    surface=Surface(1, 70.0, 110.0, {}),
    demand_rps=10.0,
    present_demand_rps=8.0,
    ready_replicas=2,
    desired_replicas=2,
    min_replicas=1,
    max_replicas=4,
    attainment=0.99,
    startup_s=20.0,
)


@pytest.fixture
def runtime():
    runtime = ServiceRuntime(
        "default", "llama", "2026-01-01T00:00:00Z", "llama", RecentPeakForecast(), HighWater(300.0)
    )
    runtime.state = STATE
    runtime.adopt_plan(object(), 0.0)
    return runtime


@pytest.mark.parametrize(
    ("change", "outgrown"),
    [
        ({}, False),
        ({"demand_rps": 10.4, "present_demand_rps": 7.0, "startup_s": 25.0}, False),
        ({"demand_rps": 10.6}, True),
        ({"demand_rps": 8.5}, True),
        ({"present_demand_rps": 8.5}, True),
        ({"present_demand_rps": 6.8}, True),
        ({"ready_replicas": 1}, True),
        ({"desired_replicas": 3}, True),
        ({"max_replicas": 3}, True),
        ({"may_scale": False}, True),
        ({"attainment": 0.95}, True),
        ({"surface": Surface(2, 70.0, 110.0, {})}, True),
    ],
)
def test_outgrown(runtime, change, outgrown):
    runtime.state = replace(STATE, **change)
    assert runtime.outgrown() is outgrown


def test_no_load_is_not_outgrown_by_no_load(runtime):
    runtime.state = replace(STATE, demand_rps=0.0, present_demand_rps=0.0)
    runtime.adopt_plan(object(), 0.0)
    assert runtime.outgrown() is False


def test_nothing_is_planned_while_holding_and_anew_after_forgetting(runtime):
    runtime.state = None
    assert not runtime.outgrown()
    runtime.forget_plan()
    runtime.state = STATE
    assert runtime.plan is None
    assert runtime.outgrown()
