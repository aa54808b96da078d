from collections.abc import Mapping
from dataclasses import dataclass, field
from dataclasses import replace as changed
from itertools import pairwise

import numpy as np
import pytest

from dynawatt.adapters.profile_files import find_replica
from dynawatt.errors import InvalidInputError
from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.arrival_feed import ArrivalFeed
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.fleet_core import ReplicaShape
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policy import FleetPlan, Governed, Group
from dynawatt.simulation.settings import EngineSettings
from dynawatt.simulation.static_policies import StaticPolicy
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

OBJECTIVES = LatencyObjectives(((None, 2.0),), 0.1)


@dataclass
class Scripted:
    """Plans and clocks by time."""

    shapes: tuple[ReplicaShape, ...]
    first: dict[Group, int]
    plans: dict[float, FleetPlan] = field(default_factory=dict)
    clocks: dict[float, dict[int, float]] = field(default_factory=dict)
    name: str = "scripted"
    eligible = None
    pool_classes = (tuple(range(9)),)
    plan_interval_s: float | None = 60.0
    govern_interval_s: float | None = None
    seen: list = field(default_factory=list)

    def initial(self):
        return FleetPlan(self.first)

    def plan(self, now_s, view):
        snapshot = view.snapshot()
        self.seen.append((now_s, snapshot, view.free_gpus, view.in_transition, view.tally()))
        return self.plans.get(now_s)

    def govern(self, now_s, view) -> Mapping[int, float]:
        return self.clocks.get(now_s, {})


def load(rate_rps=2.0, duration_s=600.0, seed=0):
    rng = np.random.default_rng(seed)
    count = int(rate_rps * duration_s)
    return Trace(np.sort(rng.uniform(0, duration_s, count)), rng.integers(10, 2000, count), rng.integers(1, 300, count))


def pieces(trace, cuts):
    rows = [0, *np.searchsorted(trace.arrival_s, cuts), len(trace)]
    return [Trace(trace.arrival_s[a:b], trace.input_tokens[a:b], trace.output_tokens[a:b]) for a, b in pairwise(rows)]


def settings(**changes):
    return SimulationSettings(**{"horizon_s": 600.0, "servers": 2, **changes})


def run(policy, trace=None, **changes):
    trace = load() if trace is None else trace
    return simulate(policy, [trace], OBJECTIVES, settings(**changes))


@pytest.fixture(scope="module")
def tp8():
    return shape(8)


@pytest.fixture(scope="module")
def tp4():
    return shape(4)


def shape(tensor_parallel):
    replica = find_replica("llama-3.1-70b", "h100-sxm", tensor_parallel)
    return ReplicaShape(replica, EngineSettings(2048, 256, replica.kv_capacity_tokens))


def static(tp8, replicas=1):
    return StaticPolicy("static", tp8, replicas, tp8.replica.gpu.default_clock_mhz)


def test_every_request_of_a_static_fleet_ends(tp8):
    result = run(static(tp8))
    assert result.requests == 1200
    assert result.unfinished_requests == 0
    assert result.tally.finished.sum() == 1200
    assert result.reconfigurations == 0
    assert result.gpu_hours == pytest.approx(8 * result.duration_s / 3600)


def test_the_chunks_in_which_arrivals_come_do_not_matter(tp8):
    trace = load()
    whole = simulate(static(tp8), [trace], OBJECTIVES, settings())
    cut = simulate(static(tp8), pieces(trace, [0.5, 61.0, 61.0, 300.0, 599.0]), OBJECTIVES, settings())
    assert (whole.tally.ttft_histogram == cut.tally.ttft_histogram).all()
    assert whole.energy_off_j == cut.energy_off_j
    assert whole.duration_s == cut.duration_s


def test_released_gpus_of_the_inventory_idle_in_one_convention_and_are_off_in_the_other(tp8):
    result = run(static(tp8), servers=3)
    released_w = 2 * GPUS_PER_SERVER * tp8.replica.released_w
    assert result.energy_idling_j - result.energy_off_j == pytest.approx(released_w * result.duration_s)


def test_a_full_inventory_has_nothing_to_idle(tp8):
    result = run(static(tp8, 2), servers=2)
    assert result.energy_idling_j == pytest.approx(result.energy_off_j)


def test_a_fleet_beyond_the_inventory_is_refused(tp8):
    with pytest.raises(InvalidInputError, match="24 GPUs does not fit the inventory of 16"):
        run(static(tp8, 3), servers=2)


def test_requests_from_the_horizon_on_are_left_out(tp8):
    trace = load()
    result = run(static(tp8), trace, horizon_s=200.0)
    assert result.requests == np.count_nonzero(trace.arrival_s < 200.0)


def test_overload_leaves_requests_unfinished_and_late(tp8):
    result = run(static(tp8), load(rate_rps=40.0), overtime_s=5.0)
    assert result.unfinished_requests > 100
    assert result.duration_s == pytest.approx(605.0)
    assert not result.slo_met


def test_a_new_replica_holds_its_gpus_while_it_starts_and_then_serves(tp8):
    policy = Scripted((tp8,), {Group(0): 1}, {60.0: FleetPlan({Group(0): 2})})
    result = run(policy, startup_s=90.0)
    states = {now_s: sorted(snapshot.state.tolist()) for now_s, snapshot, *_ in policy.seen}
    assert states[120.0] == [1, 2]
    assert states[180.0] == [2, 2]
    assert [in_transition for _, _, _, in_transition, _ in policy.seen][:3] == [False, True, False]
    assert result.reconfigurations == 1
    assert result.gpu_hours == pytest.approx((8 * result.duration_s + 8 * (result.duration_s - 60)) / 3600)
    assert result.tally.energy_j[3] > 0


def test_the_old_shape_serves_until_the_new_one_is_ready(tp8, tp4):
    swap = FleetPlan({Group(1): 2})
    policy = Scripted((tp8, tp4), {Group(0): 1}, {60.0: swap})
    result = run(policy, startup_s=200.0)
    by_time = {now_s: snapshot for now_s, snapshot, *_ in policy.seen}
    before, after = by_time[240.0], by_time[300.0]
    assert set(before.state[before.shape == 0]) == {2}
    assert set(before.state[before.shape == 1]) == {1}
    assert 2 not in after.state[after.shape == 0]
    assert set(after.state[after.shape == 1]) == {2}
    assert result.unfinished_requests == 0
    assert result.reconfigurations == 3


def test_a_plan_without_room_for_its_new_replicas_changes_nothing(tp8, tp4):
    policy = Scripted((tp8, tp4), {Group(0): 1}, {60.0: FleetPlan({Group(1): 1}, {Group(0): 1005.0})})
    result = run(policy, servers=1)
    assert result.refused_plans == 1
    assert result.reconfigurations == 0
    assert result.clock_changes == 0
    assert result.gpu_hours == pytest.approx(8 * result.duration_s / 3600)


def test_clocks_of_a_refused_plan_are_forgotten(tp8, tp4):
    plans = {60.0: FleetPlan({Group(1): 1}, {Group(0): 1005.0}), 120.0: FleetPlan({Group(0): 2})}
    result = run(Scripted((tp4, tp8), {Group(0): 1}, plans), load(0.5), servers=1, startup_s=10.0)
    assert result.refused_plans == 1
    assert result.series.replicas[0, 0, -1] == 2
    assert result.series.clock_mhz[0, -1] == tp4.replica.gpu.default_clock_mhz


def test_a_request_at_the_end_of_a_step_belongs_to_the_next():
    times = np.array([0.0, 1.0, 1.0, 2.0])
    feed = ArrivalFeed(pieces(Trace(times, np.arange(1, 5), np.ones(4, dtype=np.int64)), [0.5, 1.5]))
    assert feed.until(1.0).input_tokens.tolist() == [1]
    assert feed.until(1.0) is None
    assert feed.until(2.5).input_tokens.tolist() == [2, 3, 4]
    assert feed.until(9.0) is None


def test_the_inventory_is_kept_at_every_moment_of_a_change(tp8, tp4):
    plans = {60.0: FleetPlan({Group(1): 2}), 300.0: FleetPlan({Group(0): 1}), 480.0: FleetPlan({Group(0): 2})}
    policy = Scripted((tp8, tp4), {Group(0): 1}, plans, plan_interval_s=20.0)
    result = run(policy, startup_s=100.0)
    assert all(sum(free) >= 0 and len(free) == 2 for _, _, free, *_ in policy.seen)
    gpus = np.array([8, 4])
    for _, snapshot, free, *_ in policy.seen:
        assert gpus[snapshot.shape[snapshot.state > 0]].sum() == 2 * GPUS_PER_SERVER - sum(free)
    assert result.series.held_gpus.max() <= 2 * GPUS_PER_SERVER + 1e-6


def test_a_replica_no_longer_wanted_is_dropped_while_it_starts(tp8):
    plans = {60.0: FleetPlan({Group(0): 2}), 120.0: FleetPlan({Group(0): 1})}
    policy = Scripted((tp8,), {Group(0): 1}, plans)
    result = run(policy, startup_s=400.0)
    assert result.reconfigurations == 2
    assert sum(policy.seen[2][2]) == GPUS_PER_SERVER
    assert result.gpu_hours == pytest.approx((8 * result.duration_s + 8 * 60) / 3600, rel=1e-3)


def test_clocks_are_sent_only_when_they_change(tp8):
    low = {time_s: {0: 990.0, 99: 990.0} for time_s in (60.0, 120.0, 180.0)}
    policy = Scripted((tp8,), {Group(0): 1}, clocks=low, govern_interval_s=60.0)
    governed, free = run(policy), run(static(tp8))
    assert governed.clock_changes == 1
    assert governed.series.clock_mhz[0, -1] == 990.0
    assert governed.energy_off_j < free.energy_off_j


def test_a_plan_sets_clocks_of_old_and_new_replicas(tp8):
    policy = Scripted((tp8,), {Group(0): 1}, {60.0: FleetPlan({Group(0): 2}, {Group(0): 990.0})})
    result = run(policy, startup_s=10.0)
    assert result.series.clock_mhz[0, -1] == 990.0
    assert result.clock_changes == 1


def test_classes_go_where_they_are_eligible(tp8):
    only_first = np.zeros((2, 9), dtype=bool)
    only_first[0] = True
    policy = Scripted((tp8,), {Group(0, 0): 1, Group(0, 1): 1}, plan_interval_s=None)
    policy.eligible = only_first
    result = run(policy)
    alone = run(static(tp8))
    assert result.tally.busy_gpu_s == pytest.approx(alone.tally.busy_gpu_s)
    assert result.gpu_hours == pytest.approx(2 * alone.gpu_hours)


def test_the_series_adds_up_to_the_tally(tp8):
    result = run(static(tp8), horizon_s=590.0)
    series = result.series
    widths_s = np.diff(series.start_s, append=series.end_s)
    assert series.end_s == 590.0
    assert (series.requests_per_s * widths_s).sum() == pytest.approx(result.requests)
    assert (series.power_w * widths_s).sum() <= result.energy_off_j
    assert (series.power_w * widths_s).sum() == pytest.approx(result.energy_off_j, rel=0.03)
    assert series.replicas[0, 0].tolist() == [1.0] * len(series.start_s)


@pytest.mark.parametrize(
    ("horizon_s", "last_s"), [(600.0, 30.0), (np.nextafter(600.0, 601), 30.0), (610.0, 40.0), (617.0, 17.0)]
)
def test_a_short_rest_joins_the_last_point(tp8, horizon_s, last_s):
    series = run(static(tp8), horizon_s=horizon_s).series
    assert series.end_s == horizon_s
    assert series.end_s - series.start_s[-1] == pytest.approx(last_s)


def test_the_same_run_gives_the_same_result(tp8):
    results = [run(static(tp8), load(seed=3)) for _ in range(2)]
    assert results[0].energy_off_j == results[1].energy_off_j
    assert (results[0].tally.gap_histogram == results[1].tally.gap_histogram).all()


@pytest.mark.parametrize("hours", [0.01, 1, 24, 168, 24 * 365])
def test_a_series_has_few_points_whatever_the_duration(hours):
    chosen = settings(horizon_s=3600.0 * hours)
    assert chosen.horizon_s / chosen.sample_interval_s <= 701


@pytest.mark.parametrize("change", [{"horizon_s": 0.0}, {"horizon_s": float("nan")}, {"startup_s": -1.0}])
def test_settings_without_sense_are_refused(change):
    with pytest.raises(InvalidInputError, match="must be"):
        settings(**change)


def test_a_static_fleet_needs_a_replica(tp8):
    with pytest.raises(InvalidInputError, match="at least 1"):
        changed(static(tp8), replicas=0)


def arrived(policy):
    """By replica, at the last look."""
    return policy.seen[-1][1].arrived.tolist()


def test_closed_replicas_stay_loaded_and_get_no_request(tp8):
    plans = {60.0: FleetPlan(open_replicas={Group(0): 1}), 300.0: FleetPlan(open_replicas={Group(0): 2})}
    policy = Scripted((tp8,), {Group(0): 2}, plans)
    result = run(policy)
    by_time = {now_s: snapshot.arrived.tolist() for now_s, snapshot, *_ in policy.seen}
    assert by_time[300.0][1] == by_time[60.0][1] < by_time[360.0][1]
    assert result.reconfigurations == 0
    assert result.gpu_hours == pytest.approx(16 * result.duration_s / 3600)


def test_shares_decide_between_pools(tp8):
    shares = np.zeros((2, 9))
    shares[0] = 0.75
    shares[1] = 0.25
    policy = Scripted((tp8,), {Group(0, 0): 1, Group(0, 1): 1}, {60.0: FleetPlan(shares=shares)})
    policy.eligible = np.ones((2, 9), dtype=bool)
    run(policy)
    before = next(snapshot.arrived for now_s, snapshot, *_ in policy.seen if now_s == 60.0)
    first, second = np.array(arrived(policy)) - before
    assert first == pytest.approx(3 * second, rel=0.05)


def test_requests_are_routed_by_what_they_are_predicted_to_be(tp8):
    shares = np.zeros((2, 9))
    shares[0, ::3] = 1.0
    shares[1] = 1.0 - shares[0]

    def to_the_first(predictor):
        policy = Scripted((tp8,), {Group(0, 0): 1, Group(0, 1): 1}, {60.0: FleetPlan(shares=shares)})
        policy.eligible = np.ones((2, 9), dtype=bool)
        run(policy, predictor=predictor)
        return arrived(policy)[0]

    # A third has short outputs: nobody is taken for another, or many are, most of them for short.
    assert to_the_first(LengthPredictor(0.4)) != to_the_first(None) == to_the_first(LengthPredictor(1.0))


def test_governors_take_over_with_a_plan_and_end_with_a_fixed_clock(tp8):
    table = GovernorTable(0.99, 0.1, 1.0, 1000.0, 100.0, True, (ClockRow(810, 50.0, 1e6, 200),))
    group = Group(0)
    plans = {
        120.0: FleetPlan(governed={group: Governed(table, 810, 1980)}),
        420.0: FleetPlan(clocks_mhz={group: 1500.0}),
    }
    policy = Scripted((tp8,), {group: 1}, plans)
    clocks_mhz = run(policy).series.clock_mhz[0]
    # Points are 30 s wide.
    assert clocks_mhz[:4].tolist() == [1980.0] * 4
    assert clocks_mhz[7:14].tolist() == [810.0] * 7
    assert clocks_mhz[14:].tolist() == [1500.0] * 6
