import math
from types import SimpleNamespace

import pytest

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
def test_any_trace_is_scaled_so_that_the_static_fleet_needs_four_replicas(trace_file, fit):
    scenario = load_scenario(trace_file, **OPTIONS | {"fit": fit})
    peak_rps = scenario.trace.peak_rps(scenario.trace.span_s / 4)
    assert scenario.replicas >= math.ceil(peak_rps / scenario.capacity_rps) == 4
    assert scenario.trace.span_s == pytest.approx(60, abs=3)


def test_the_static_fleet_attains_the_slo():
    scenario = load_scenario(None, **OPTIONS)
    result = scenario.replay_static(60.0)
    assert scenario.replicas >= 4
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
        load_scenario(None, **OPTIONS | {"rate_scale": 10.0})


class Gpus:
    """A simulated node; a GPU that no pod holds runs at its default clock."""

    def __init__(self, *clocks_mhz):
        held = [{"smClockMhz": clock, "pod": {"namespace": "default", "name": "a"}} for clock in clocks_mhz]
        self._gpus = [*held, {"smClockMhz": 1980, "pod": None}]

    def devices(self):
        return [SimpleNamespace(uuid=index) for index in range(len(self._gpus))]

    def gpu(self, uuid):
        return self._gpus[uuid]


def test_clocks_are_those_of_the_gpus_that_pods_hold():
    watch = ServiceWatch(api=None, nodesim_url="http://unused", nodes=["a", "b"], namespace="default", name="llama")
    view = DemoView(load_scenario(None, **OPTIONS), 60.0)
    assert view.clock_mhz(watch) == 1980
    for nodes in ([Gpus(), Gpus()], [Gpus(1200, 1400), Gpus(1000)], [Gpus(1500), Gpus()]):
        watch._clients = nodes
        watch._take_clock(watch._read_clock())
    assert view.clock_mhz(watch) == 1500
    assert watch.clock_range_mhz == (1200, 1500)


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
