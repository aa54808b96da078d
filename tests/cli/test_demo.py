import math

import pytest

from dynawatt.cli.demo.agents import Agents, NodeReading, energy_now, node_reading
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


def reading(*held_mhz, unix_s=100.0, energy_j=0.0, power_w=0.0):
    """A node; a GPU that no pod holds runs at its default clock."""
    return NodeReading(unix_s, energy_j, power_w, [*held_mhz, 1980.0], held_mhz)


def test_clocks_are_those_of_the_gpus_that_pods_hold():
    watch = ServiceWatch(api=None, agents=Agents(()), namespace="default", name="llama")
    view = DemoView(load_scenario(None, **OPTIONS), 60.0)
    assert view.clock_mhz(watch) == 1980
    for nodes in ([reading(), reading()], [reading(1200, 1400), reading(1000)], [reading(1500), reading()]):
        watch._take_nodes(nodes)
    assert view.clock_mhz(watch) == 1500
    assert watch.clock_range_mhz == (1200, 1500)


def test_energies_of_agents_are_carried_on_to_the_same_moment(monkeypatch):
    monkeypatch.setattr("dynawatt.cli.demo.agents.time.time", lambda: 101.0)
    nodes = [reading(energy_j=5000.0, power_w=800.0), reading(energy_j=7000.0, power_w=400.0, unix_s=100.5)]
    assert energy_now(nodes) == (101.0, 5000.0 + 800.0 + 7000.0 + 200.0)


PAGE = """
dynawatt_node_energy_joules_total{node="a"} 1234.5
dynawatt_agent_last_cycle_timestamp_seconds{node="a"} 1.7e9
dynawatt_gpu_power_watts{gpu_uuid="0",namespace="",node="a",pod=""} 70.0
dynawatt_gpu_power_watts{gpu_uuid="1",namespace="p",node="a",pod="x"} 430.0
dynawatt_gpu_sm_clock_hertz{gpu_uuid="0",namespace="",node="a",pod=""} 1.98e+09
dynawatt_gpu_sm_clock_hertz{gpu_uuid="1",namespace="p",node="a",pod="x"} 9e+08
"""


def test_an_agents_page():
    assert node_reading(PAGE) == NodeReading(1.7e9, 1234.5, 500.0, [1980.0, 900.0], [900.0])
    for name in ("dynawatt_node_energy_joules_total", "dynawatt_agent_last_cycle_timestamp_seconds"):
        with pytest.raises(ValueError, match="measured nothing yet"):
            node_reading(PAGE.replace(name, "something_else"))


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
