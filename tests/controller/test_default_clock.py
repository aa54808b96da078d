"""A service on nodes whose clocks cannot be set, as its plan takes it and tells it."""

import pytest

from dynawatt.perfmodel.surface import Surface, SurfacePoint

from .conftest import make_deployment
from .running import Running


def row(idle_w, busy_w):
    good = [SurfacePoint(rate, 1, 1, 0.1, 0.02, watts) for rate, watts in ((0.0, idle_w), (5.0, busy_w))]
    return [*good, SurfacePoint(5.05, 0.5, 0.5, 9, 1, busy_w)]


@pytest.fixture
def running(monkeypatch):
    """Two replicas that carry as much at 1200 MHz as at the default clock, for half the watts."""
    running = Running(monkeypatch, make_deployment(2), nodes="n", knobs=["Clock"])
    running.surfaces.by_size[1] = Surface(1, 70.0, 110.0, {1200: row(80.0, 150.0), 1980: row(110.0, 300.0)})
    return running


def gpunode(control):
    gpus = [{"uuid": f"GPU-{number}", "product": "NVIDIA H100", "clockControl": control} for number in range(8)]
    return {"metadata": {"name": "n"}, "status": {"gpus": gpus}}


@pytest.mark.parametrize(
    ("reports", "clock_mhz", "told"),
    [
        ([], 1200, ""),
        ([gpunode("Supported")], 1200, ""),
        (
            [gpunode("Unsupported")],
            1980,
            "; at the default clock, because the clocks of 2 of 2 replicas cannot be set, "
            "ClockControlUnsupported: NVIDIA H100 does not let it be set",
        ),
    ],
)
async def test_the_clock_of_the_plan_is_one_that_can_be_set(running, reports, clock_mhz, told):
    running.cluster.gpunodes_ = reports
    await running.run(10)
    decision = running.draft.status.last_decision
    assert decision.chosen.clock_megahertz == clock_mhz
    assert decision.message.endswith(told)
    assert ("default clock" in decision.message) is bool(told)
    assert None not in running.cluster.claims()  # whoever can set it one day is let
