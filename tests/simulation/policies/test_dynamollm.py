from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from dynawatt.perfmodel.surface import Surface, SurfacePoint
from dynawatt.routing.pools import dominates
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.policies.dynamollm import (
    dynamollm,
    multi_pool,
    scale_freq,
    scale_inst,
    scale_shard,
)
from dynawatt.simulation.policies.pools_layout import PoolLayout
from dynawatt.simulation.policies.pools_managers import ClusterManager, PoolManagers
from dynawatt.simulation.policies.pools_profiling import work_per_token
from dynawatt.simulation.policies.pools_split import SplitRules
from dynawatt.simulation.study import History

from .small_pools import MOST, by_class, profile, tables
from .small_study import OBJECTIVES, OneSurface, poisson, small_study

BUILDERS = (multi_pool, scale_inst, scale_shard, scale_freq, dynamollm)


def row(carried_rps, idle_w, busy_w):
    good = [SurfacePoint(rate, 1, 1, 0.1, 0.01, watts) for rate, watts in ((0.0, idle_w), (carried_rps, busy_w))]
    return [*good, SurfacePoint(carried_rps + 1e-6, 0.5, 0.5, 9.0, 1.0, busy_w)]


SURFACE = Surface(1, 70.0, 110.0, {1005: row(2.5, 80.0, 150.0), 1980: row(5.0, 110.0, 600.0)})


BASE = small_study(surfaces=OneSurface(SURFACE), predictor_accuracy=1.0, servers=1)
"""Is tuned once, for all."""


def study(**changes):
    return replace(BASE, **changes)


def run(policy, horizon_s=2400.0, rate_rps=8.0, servers=2):
    settings = SimulationSettings(horizon_s, servers, predictor=LengthPredictor(1.0))
    return simulate(policy, [poisson(rate_rps, 0.0, horizon_s)], OBJECTIVES, settings)


def test_static_pools_are_sized_for_the_peak_of_their_classes():
    # A quarter each of SS and LM, half of MM, and a replica carries 5 requests/s of any of them.
    policy = multi_pool("multi-pool", study(peak_rps=46.0))
    assert [pool.classes for pool in policy.layout.pools] == [(0,), (1, 3, 4), (2, 5, 6, 7, 8)]
    assert list(policy.static_sizes) == [3, 5, 3]
    assert policy.servers == 2
    assert policy.plan_interval_s is None


def test_it_needs_the_inventory_or_more():
    assert multi_pool("multi-pool", study(peak_rps=46.0, servers=5)).servers == 5
    assert multi_pool("multi-pool", study(peak_rps=110.0)).servers == 3


def test_a_class_that_keeps_a_tenth_of_a_replica_busy_joins_the_next_larger_one():
    policy = multi_pool("multi-pool", study(peak_rps=11.0))
    assert [pool.classes for pool in policy.layout.pools] == [(0, 1, 3, 4), (2, 5, 6, 7, 8)]


def test_wrong_predictions_are_part_of_the_load():
    # Of SS 0.107 replicas are busy at 40 requests/s; what is taken for SM and SL leaves too few for a pool.
    right, wrong = (multi_pool("any", study(peak_rps=40.0, predictor_accuracy=each)) for each in (1.0, 0.81))
    assert list(right.static_sizes) == [2, 4, 2]
    assert [pool.classes for pool in wrong.layout.pools] == [(0, 1, 3, 4), (2, 5, 6, 7, 8)]


@pytest.mark.parametrize("build", BUILDERS)
def test_pools_serve_only_what_they_dominate(build):
    policy = build("any", study())
    names = [pool.largest for pool in policy.layout.pools for _ in policy.shapes]
    expected = [[dominates(largest, each) for each in range(9)] for largest in names]
    assert policy.eligible.tolist() == expected
    shares = policy.initial().shares
    assert shares.sum(axis=0) == pytest.approx(1)
    assert not (shares[~policy.eligible] > 0).any()


@pytest.mark.parametrize("build", BUILDERS)
def test_every_policy_serves_a_load_below_its_peak(build):
    result = run(build("any", study(peak_rps=12.0)))
    assert result.unfinished_requests == 0
    assert result.refused_plans == 0
    assert result.tally.ttft_attainment() > 0.95


def test_one_manager_moves_one_thing():
    fleet = multi_pool("multi-pool", study(peak_rps=24.0))
    static = run(fleet)
    assert (static.reconfigurations, static.clock_changes) == (0, 0)
    instances = run(scale_inst("scale-inst", study(peak_rps=24.0)))
    assert instances.reconfigurations > 0
    assert instances.clock_changes == 0
    assert instances.gpu_hours < static.gpu_hours
    clocks = run(scale_freq("scale-freq", study(peak_rps=24.0)))
    assert clocks.reconfigurations == 0
    assert clocks.gpu_hours == pytest.approx(static.gpu_hours, rel=1e-3)
    assert clocks.energy_off_j < 0.95 * static.energy_off_j


def test_instances_fit_the_inventory_whatever_the_week_before_was_like():
    history = History(-604_800.0, np.full((2016, 9), 5000.0))
    result = run(scale_inst("scale-inst", study(peak_rps=24.0, history=history)), servers=1)
    assert result.unfinished_requests == 0


def test_a_run_can_be_repeated():
    policy = dynamollm("dynamollm", study(peak_rps=24.0))
    assert run(policy, 900.0).energy_off_j == run(policy, 900.0).energy_off_j


def test_work_per_token_gives_back_the_work_of_the_classes():
    service = study()
    shape = multi_pool("multi-pool", service).shapes[0]
    prompt, generated = work_per_token(service, shape)
    assert prompt > 0
    assert generated >= 0
    mean = prompt * service.mix.mean_input_tokens + generated * service.mix.mean_output_tokens
    assert mean == pytest.approx(float(service.work(shape) @ service.class_shares), rel=0.2)


class TestClusterManager:
    def test_what_the_next_epoch_needs_is_started_before_it(self):
        loads = {0: 1.0, 1800: 3.0, 3600: 2.0}
        manager = ClusterManager(lambda load, _: [int(load[0])], startup_s=400.0)

        def peaks(begin_s, end_s):
            assert end_s == begin_s + 1800
            return np.array([loads[begin_s]])

        found = [manager.sizes(now_s, peaks) for now_s in (0, 900, 1199, 1200, 1800, 2999, 3000, 3600)]
        assert found == [[1], [1], [1], [3], [3], [3], [3], [2]]

    def test_an_epoch_is_decided_once(self):
        answers = iter([[1], [9]])
        manager = ClusterManager(lambda *_: next(answers), startup_s=60.0)
        peaks = lambda begin_s, end_s: np.zeros(1)  # noqa: E731
        assert [manager.sizes(now_s, peaks) for now_s in (0, 300, 600)] == [[1]] * 3


class TestPoolManagers:
    """Two pools of two servers each, at which TP4 takes fewer joules than TP8."""

    def managers(self, *, all_gpus=False):
        pools = multi_pool("any", study()).layout.pools[-2:]
        options = [profile(8, 2.0), profile(4, 1.0, watts_per_load=300.0)]
        layout = PoolLayout(_shapes(), tables(pools, [options, options]), spills=False, any_clock=False)
        rules = SplitRules(any_clock=False, all_gpus=all_gpus, worth_s=1800.0)
        return layout, PoolManagers(layout, rules)

    def loads(self, each):
        return by_class(MM=each, LM=each)

    def test_one_pool_at_a_time(self):
        layout, managers = self.managers()
        serving = Counter({layout.group(row, 0): 2 for row in range(2)})
        first = managers.split([2, 2], self.loads(3.5), serving)
        second = managers.split([2, 2], self.loads(3.5), first)
        assert [layout.counts(row, first) for row in range(2)] == [[0, 4], [2, 0]]
        assert [layout.counts(row, second) for row in range(2)] == [[0, 4], [0, 4]]
        assert managers.split([2, 2], self.loads(3.5), second) == second

    def test_pools_that_must_change_do_so_together(self):
        layout, managers = self.managers()
        serving = Counter({layout.group(row, 0): 1 for row in range(2)})
        found = managers.split([2, 2], self.loads(3.5), serving)
        assert all(layout.capacity(row, by_class(), found) >= 3.5 for row in range(2))

    def test_all_gpus_of_a_pool_stay_in_use(self):
        layout, managers = self.managers(all_gpus=True)
        serving = Counter({layout.group(row, 0): 2 for row in range(2)})
        found = managers.split([2, 2], self.loads(0.1), serving)
        assert [np.dot(layout.counts(row, found), layout.gpus) for row in range(2)] == [16, 16]

    def test_a_load_beyond_all_gets_the_largest_replicas(self):
        layout, managers = self.managers()
        found = managers.split([2, 1], self.loads(50.0), Counter())
        assert [layout.counts(row, found) for row in range(2)] == [[2, 0], [1, 0]]
        assert MOST > 2


def _shapes():
    class Shape:
        def __init__(self, degree):
            self.replica = type("Replica", (), {"tensor_parallel": degree})()

    return [Shape(8), Shape(4)]
