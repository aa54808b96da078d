import asyncio
import math
import time

import httpx
import pytest

from dynawatt.cli.demo.agents import NodeReading
from dynawatt.cli.demo.scenario import TraceFit, load_scenario
from dynawatt.cli.demo.view import DemoView, sparkline
from dynawatt.cli.demo.watching import ServiceWatch
from dynawatt.errors import InvalidInputError

OPTIONS = {"duration_s": 60.0, "rate_scale": None, "fit": TraceFit.TIMELAPSE, "start_offset_s": 0.0, "seed": 1}


@pytest.fixture(scope="module")
def trace_file(tmp_path_factory):
    """An hour whose rate doubles in the middle."""
    path = tmp_path_factory.mktemp("demo") / "trace.csv"
    times = [second for second in range(0, 3600) for _ in range(2 if 1200 <= second < 2400 else 1)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{time},900,150\n" for time in times))
    return path


@pytest.mark.parametrize("fit", TraceFit)
def test_any_trace_is_scaled_so_that_the_static_fleet_needs_one_replica(trace_file, fit):
    scenario = load_scenario(trace_file, **OPTIONS | {"fit": fit})
    peak_rps = scenario.trace.peak_rps(scenario.trace.span_s / 4)
    assert scenario.replicas >= math.ceil(peak_rps / scenario.capacity_rps) == 1
    assert scenario.trace.span_s == pytest.approx(60, abs=3)


def test_the_static_fleet_attains_the_slo():
    scenario = load_scenario(None, **OPTIONS)
    result = scenario.replay_static(60.0)
    assert scenario.replicas >= 1
    assert min(result.ttft_attainment, result.tbt_attainment) >= scenario.attainment == 0.99


def test_fast_motion_keeps_how_the_load_rises_and_falls(trace_file):
    trace = load_scenario(trace_file, **OPTIONS).trace
    thirds = [len(trace.window(start, 20.0)) for start in (0.0, 20.0, 40.0)]
    assert thirds[1] / thirds[0] == pytest.approx(2, rel=0.2)
    assert thirds[1] / thirds[2] == pytest.approx(2, rel=0.2)


def test_gpus_that_no_pod_requests_are_charged_idle_power():
    scenario = load_scenario(None, **OPTIONS | {"rate_scale": 0.2})
    static = scenario.replay_static(60.0)
    assert scenario.replicas < scenario.nodes
    released = scenario.gpus - 8 * scenario.replicas
    assert scenario.baseline_energy_j(static, 60.0) == pytest.approx(static.energy_j + released * 70.0 * 60.0)


def test_a_load_that_no_fleet_here_can_carry_is_refused():
    with pytest.raises(InvalidInputError, match="--rate-scale"):
        load_scenario(None, **OPTIONS | {"rate_scale": 60.0})


class Agents:
    """What the agents of two nodes tell, one poll after the other; errors are raised."""

    def __init__(self, *polls):
        self.polls = list(polls)

    def read(self):
        if not self.polls:
            raise asyncio.CancelledError  # the test is over
        poll = self.polls.pop(0)
        if isinstance(poll, Exception):
            raise poll
        return poll


def reading(*held_mhz, unix_s=0.0, energy_j=0.0, power_w=0.0):
    """A node whose last GPU no pod holds, so that it runs at its default clock."""
    return NodeReading(unix_s, energy_j, power_w, [*held_mhz, 1980.0], held_mhz)


def watching(*polls):
    """What a watch has seen after these polls."""
    watch = ServiceWatch(api=None, agents=Agents(*polls), namespace="default", name="llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServiceWatch, "read_status", lambda watch: watch.status)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(watch.follow(0.0))
    return watch


def test_clocks_are_those_of_the_gpus_that_pods_hold():
    view = DemoView(load_scenario(None, **OPTIONS), 60.0)
    idle = [reading(), reading()]
    assert view.clock_mhz(watching()) == view.clock_mhz(watching(idle)) == 1980
    watch = watching(idle, [reading(1200, 1400), reading(1000)], [reading(1500), reading()])
    assert view.clock_mhz(watch) == 1500
    assert watch.clock_range_mhz == (1200, 1500)


@pytest.mark.parametrize("error", [ValueError("measured nothing yet"), httpx.ConnectError("refused"), OSError()])
def test_a_poll_that_fails_is_skipped(error):
    watch = watching([reading(1200)], error, [reading(1500)])
    assert watch.clock_range_mhz == (1200, 1500)


def test_power_is_what_the_counters_moved(monkeypatch):
    now_s = iter([100.0, 101.0, 104.0])
    monkeypatch.setattr(time, "time", lambda: next(now_s))
    watch = watching(
        [reading(unix_s=99.5, energy_j=1000.0, power_w=200.0), reading(unix_s=100.0, energy_j=0.0)],
        [reading(unix_s=101.0, energy_j=1300.0, power_w=200.0), reading(unix_s=101.0, energy_j=100.0)],
        [reading(unix_s=104.0, energy_j=1900.0, power_w=200.0), reading(unix_s=104.0, energy_j=400.0)],
    )
    assert list(watch.readings) == [(100.0, 1100.0), (101.0, 1400.0), (104.0, 2300.0)]
    assert watch.power_w == 300.0


def test_no_power_is_known_from_a_single_reading():
    assert watching([reading(unix_s=99.5, energy_j=1000.0, power_w=200.0)]).power_w == 0.0


def test_sparkline():
    assert sparkline([0, 5, 10, 20, -1], 10) == " ▄██ "
    assert sparkline([1.0], 0) == ""


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (["5,900000,10"] * 200, "request 1 has 900010 tokens; the model takes 131072"),
        (["5,100,10"], "has 1 requests in 0 s; give at least 100 in 60 s"),
        (["5,100,10"] * 200, "has 200 requests in 0 s"),
    ],
)
def test_a_trace_that_cannot_be_a_load_is_refused(tmp_path, rows, problem):
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows, ""]))
    with pytest.raises(InvalidInputError, match=problem):
        load_scenario(path, **OPTIONS)
