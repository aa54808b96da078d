from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from dynawatt.planning.demand import DemandForecast
from dynawatt.planning.service import FixedClock
from dynawatt.simulation.fleet_core import ReplicaState
from dynawatt.simulation.policies.dynawatt_shapes import shape_choices
from dynawatt.simulation.policies.managed_pool import ManagedPool
from dynawatt.simulation.policy import Group
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.study import Knobs

from .hand_surfaces import FAST_MHZ, SLOW_MHZ, hand_study, hand_surface, two_degrees

ONE, TWO = Group(3, 1), Group(4, 1)
"""One GPU, and two that carry a little less than twice as much."""
SERVING, STARTING = ReplicaState.SERVING, ReplicaState.STARTING


BURST_RPS = 2.0


@dataclass
class Load:
    """What a PoolLoad tells."""

    high_rps: tuple | None = None
    rate_rps: float = 0.0

    def demand(self, now_s):
        high_rps = None if self.high_rps is None else np.array(self.high_rps, dtype=float)
        return None if high_rps is None else DemandForecast(high_rps / 2, high_rps)

    def busiest_rps(self):
        return self.present_rps()

    def present_rps(self):
        return self.rate_rps

    def sustained_rps(self):
        return self.rate_rps - BURST_RPS


def pool(high_rps=None, *, groups=(ONE,), peak_rps=10.0, one=None, **knobs):
    answers = {1: one or hand_surface(1), 2: hand_surface(2, slow=(9.0, 200.0, 470.0), fast=(16.0, 260.0, 1060.0))}
    knobs = Knobs(settings=False, **knobs)
    study = hand_study(answers, profiles=two_degrees(), knobs=knobs)
    choices = dict(zip((ONE, TWO), shape_choices(study, QueueOrder.PRIORITY), strict=True))
    return ManagedPool({group: choices[group] for group in groups}, Load(high_rps), knobs, peak_rps)


def fleet(*replicas):
    """Of (group, state, waiting requests)."""
    groups, states, waiting = zip(*replicas, strict=True)
    return SimpleNamespace(
        shape=np.array([group.shape for group in groups]),
        pool=np.array([group.pool for group in groups]),
        state=np.array(states),
        waiting=np.array(waiting),
    )


def serving(count, group=ONE, waiting=0):
    return fleet(*[(group, SERVING, waiting)] * count)


def plan(shape, replicas):
    return SimpleNamespace(shape=shape, replicas=replicas)


def test_the_first_fleet_is_for_what_comes_before_it_can_grow():
    assert pool((4.0, 4.0, 14.0, 60.0)).first_fleet(8) == {ONE: 3}
    assert pool((4.0, 14.0, 4.0, 60.0)).first_fleet(8) == {ONE: 3}
    assert pool((4.0, 4.0, 4.0, 60.0)).first_fleet(8) == {ONE: 1}


def test_the_first_fleet_has_the_shape_that_costs_least():
    # Beyond released GPUs 30 W for every GPU and 30 J for every request, at the slow clock.
    assert pool((14.0,), groups=(ONE, TWO)).first_fleet(8) == {ONE: 3}
    assert pool((4.0,), groups=(ONE, TWO)).first_fleet(8) == {ONE: 1}
    assert pool((78.0,), groups=(ONE, TWO)).first_fleet(8) == {ONE: 8}
    # A second GPU that is not held draws 70 W all the same: 2 * 30 W and 30 J each beat 35 W and 35 J.
    assert pool((6.0,), one=hand_surface(1, fast=(10.0, 105.0, 455.0))).first_fleet(8) == {ONE: 2}


def test_when_nothing_is_known_all_that_fits_is_there():
    assert pool(groups=(ONE, TWO)).first_fleet(8) == {ONE: 8}
    assert pool(groups=(TWO,)).first_fleet(8) == {TWO: 4}
    assert pool(groups=(TWO,)).first_fleet(5) == {TWO: 2}


def test_it_leaves_gpus_to_others():
    assert pool((35.0,)).first_fleet(8) == {ONE: 7}
    assert pool((35.0,)).first_fleet(6) == {ONE: 4}  # with the fast clock
    assert pool((35.0,)).first_fleet(3) == {ONE: 3}  # the most that can be


@pytest.mark.parametrize(("peak_rps", "gpus"), [(10.0, 1), (10.1, 2), (79.0, 8)])
def test_the_gpus_for_its_peak_are_the_fewest(peak_rps, gpus):
    assert pool(groups=(ONE, TWO), peak_rps=peak_rps).gpus_for_peak() == gpus


def test_without_the_replicas_it_is_sized_for_the_peak():
    fixed = pool((4.0,), peak_rps=14.0, replicas=False)
    assert fixed.first_fleet(8) == {ONE: 3}
    state = fixed.state(0.0, serving(3))
    assert not state.may_scale
    assert not state.may_reshape


def test_a_state_counts_its_own_replicas_by_shape():
    found = pool((4.0,), groups=(ONE, TWO))
    found.load.rate_rps = 3.5
    found.take(plan("tp2", 2), 100.0)
    others = [(Group(3, 0), SERVING, 0), (Group(4, 0), STARTING, 0)]
    leaving = [(ONE, ReplicaState.DRAINING, 0), (ONE, ReplicaState.GONE, 0)]
    state = found.state(400.0, fleet((ONE, SERVING, 0), (ONE, SERVING, 0), (TWO, STARTING, 0), *others, *leaving))
    assert (state.ready, state.starting) == ({"tp1": 2}, {"tp2": 1})
    assert state.present_rps == 3.5 - BURST_RPS
    assert state.since_change_s == 300.0
    assert (state.may_scale, state.may_reshape, state.fixed_clock) == (True, True, None)
    assert list(state.curves) == ["tp1", "tp2"]


@pytest.mark.parametrize(
    ("knobs", "reshape", "clock"), [({"shape": False}, False, None), ({"clock": False}, True, FixedClock())]
)
def test_knobs_reach_the_planner(knobs, reshape, clock):
    # Without the shape there is one degree alone, without the clock one clock.
    found = ManagedPool(pool((4.0,)).choices, Load((4.0,)), Knobs(**knobs), 10.0)
    state = found.state(0.0, serving(1))
    assert (state.may_reshape, state.fixed_clock) == (reshape, clock)


def test_there_is_no_state_while_nothing_is_known():
    assert pool().state(0.0, serving(1)) is None


def test_only_a_plan_that_differs_is_a_change():
    found = pool((4.0,), groups=(ONE, TWO))
    found.take(plan("tp1", 2), 100.0)
    assert found.wanted == {ONE: 2}
    found.take(plan("tp1", 2), 400.0)
    assert found.state(500.0, serving(2)).since_change_s == 400.0
    found.take(plan("tp2", 2), 600.0)
    assert found.wanted == {TWO: 2}
    assert found.state(700.0, serving(2)).since_change_s == 100.0


def test_a_load_outgrows_a_plan_by_what_is_no_burst():
    found = pool((10.0, 99.0))
    assert not found.outgrown()
    found.state(0.0, serving(1))
    for rate_rps, outgrown in ((11.9, False), (12.1, True), (0.0, False)):
        found.load.rate_rps = rate_rps
        assert found.outgrown() is outgrown


def test_replicas_open_and_close_with_the_load():
    found = pool((40.0,))
    found.take(plan("tp1", 8), 0.0)
    found.load.rate_rps = 38.0
    assert found.newly_open(0.0, serving(8)) == {ONE: 8}
    assert found.newly_open(10.0, serving(8)) == {}
    found.load.rate_rps = 4.0
    changes = [found.newly_open(20.0 + 10 * step, serving(8)) for step in range(60)]
    assert [change for change in changes if change] == [{ONE: 1}]
    assert found.sharing(ONE) == 1
    assert found.newly_open(700.0, serving(8, waiting=5)) == {ONE: 5}
    assert found.sharing(ONE) == 5


def test_without_packing_all_stay_open():
    found = pool((40.0,), packing=False)
    found.take(plan("tp1", 8), 0.0)
    found.load.rate_rps = 1.0
    assert [found.newly_open(10.0 * step, serving(8)) for step in range(60)] == [{}] * 60
    assert found.sharing(ONE) == 8


def test_shapes_that_serve_together_share_the_load_by_what_they_carry():
    found = pool((40.0,), groups=(ONE, TWO))
    both = fleet(*[(ONE, SERVING, 0)] * 4, *[(TWO, SERVING, 0)] * 2)
    # 40 and 32 requests/s: of 18 each gets 10 and 8, which 2 slow ones and 1 slow one carry.
    found.load.rate_rps = 18.0
    for step in range(60):
        found.newly_open(10.0 * step, both)
    found.take(plan("tp1", 4), 0.0)
    assert found.sharing(ONE) == 2
    found.take(plan("tp2", 2), 0.0)
    assert found.sharing(TWO) == 1


def test_a_fixed_clock_is_for_the_load_to_be_ready_for():
    found = pool((18.0,), packing=False, governor=False)
    found.take(plan("tp1", 4), 0.0)
    found.state(0.0, serving(4))
    assert found.fixed_clock_mhz(ONE) == SLOW_MHZ
    found.take(plan("tp1", 2), 0.0)
    assert found.fixed_clock_mhz(ONE) == FAST_MHZ


def test_a_fixed_clock_is_for_the_replicas_that_are_open():
    found = pool((18.0,), governor=False)
    found.take(plan("tp1", 4), 0.0)
    found.state(0.0, serving(4))
    found.load.rate_rps = 9.0
    for step in range(60):
        found.newly_open(10.0 * step, serving(4))
    assert found.sharing(ONE) == 2
    # Two of four would be overrun at the slow clock by what four carry at it.
    assert found.fixed_clock_mhz(ONE) == FAST_MHZ
