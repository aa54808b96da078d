"""How plans become replicas, against a core that only takes note of what it is told."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.simulation.fleet_core import ReplicaShape, ReplicaState
from dynawatt.simulation.managed_fleet import ManagedFleet
from dynawatt.simulation.policy import FleetPlan, Governed, Group
from dynawatt.simulation.settings import EngineSettings

from .small_replica import small_replica

SHAPE = ReplicaShape(small_replica(), EngineSettings(1024, 64, 60_000))
OLD, NEW = Group(0), Group(1)
STARTUP_S = 100.0
CLAIM = Governed(GovernorTable(0.99, 0.1, 1.0, 500.0, 50.0, True, (ClockRow(810, 1.0, 1000.0, 10),)), 810, 1200)


class NotedCore:
    """Replicas start up on time, and are gone once they drain."""

    def __init__(self):
        self.now_s = 0.0
        self.ready_s = []
        self.gone = set()
        self.closed = set()
        self.clocks_mhz = []
        self.shares = None

    def add_replica(self, shape, *, clock_mhz, ready_s=None, pool=0):
        self.ready_s.append(ready_s or 0.0)
        self.clocks_mhz.append(clock_mhz)
        return len(self.ready_s) - 1

    def drain(self, replica):
        assert replica not in self.gone
        self.gone.add(replica)

    def set_clock(self, replica, clock_mhz):
        self.clocks_mhz[replica] = clock_mhz

    def set_open(self, replica, is_open):
        (self.closed.discard if is_open else self.closed.add)(replica)

    def set_shares(self, shares):
        self.shares = shares

    def snapshot(self):
        ids = np.arange(len(self.ready_s))
        state = [
            ReplicaState.GONE
            if i in self.gone
            else ReplicaState.SERVING
            if self.ready_s[i] <= self.now_s
            else ReplicaState.STARTING
            for i in ids
        ]
        return SimpleNamespace(id=ids, state=np.array(state))

    @property
    def serving(self):
        return [i for i, ready_s in enumerate(self.ready_s) if i not in self.gone and ready_s <= self.now_s]

    @property
    def open(self):
        return [i for i in self.serving if i not in self.closed]


class Fleet:
    def __init__(self, servers=2, **plan):
        self.core = NotedCore()
        self.managed = ManagedFleet(self.core, (SHAPE, SHAPE), servers=servers, startup_s=STARTUP_S)
        self.managed.begin(FleetPlan(**plan))

    def at(self, now_s, **plan):
        """Settle whenever a replica becomes Ready, as the driver does; then apply."""
        while self.managed.next_ready_s <= now_s:
            self.core.now_s = self.managed.next_ready_s
            self.managed.settle()
        self.core.now_s = now_s
        self.managed.settle()
        return self.managed.apply(FleetPlan(**plan)) if plan else None


def test_what_leaves_does_not_wait_for_what_later_plans_start():
    fleet = Fleet(replicas={OLD: 1})
    for step in range(8):
        fleet.at(60.0 * step, replicas={NEW: 1 + step})
    # The first new one is Ready at 100 s; since then one is always starting.
    assert fleet.core.gone == {0}
    assert fleet.managed.next_ready_s < 1e9


def test_what_leaves_waits_for_all_that_its_own_plan_starts():
    fleet = Fleet(replicas={OLD: 1})
    fleet.at(0.0, replicas={NEW: 1})
    fleet.at(60.0, replicas={NEW: 1, OLD: 1})
    fleet.at(70.0, replicas={NEW: 2})
    fleet.at(169.0)
    assert fleet.core.serving == [0, 1]
    fleet.at(170.0)
    assert fleet.core.serving == [1, 2]


def test_what_leaves_waits_for_others_when_those_it_waited_for_are_dropped():
    fleet = Fleet(replicas={OLD: 1})
    fleet.at(0.0, replicas={NEW: 1})
    fleet.at(60.0, replicas={Group(1, 1): 1})
    assert fleet.core.gone == {1}
    fleet.at(159.0)
    assert fleet.core.serving == [0]
    fleet.at(160.0)
    assert fleet.core.serving == [2]
    assert not fleet.managed.in_transition


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12), st.integers(10, 150))
def test_a_fleet_never_goes_below_what_every_plan_since_asked_for_and_gets_there(plans, step_s):
    fleet = Fleet(servers=4, replicas={OLD: 2})
    wanted = 2
    for index, (old, new) in enumerate(plans):
        fleet.at(index * step_s, replicas={OLD: old, NEW: new})
        wanted = min(wanted, old + new)
        assert len(fleet.core.serving) >= wanted
    fleet.at(len(plans) * step_s + STARTUP_S)
    old, new = plans[-1]
    assert len(fleet.core.serving) == old + new
    assert not fleet.managed.in_transition
    assert sum(fleet.managed.free_gpus) == 4 * 8 - (old + new)


def test_the_oldest_serving_replicas_are_open():
    fleet = Fleet(replicas={OLD: 3}, open_replicas={OLD: 2})
    assert fleet.core.open == [0, 1]
    fleet.at(10.0, replicas={OLD: 4})
    fleet.at(110.0, open_replicas={OLD: 3})
    assert fleet.core.open == [0, 1, 2]
    fleet.at(120.0, open_replicas={OLD: 9})
    assert fleet.core.open == [0, 1, 2, 3]


def test_closed_replicas_leave_first_and_open_ones_are_made_up_for():
    fleet = Fleet(replicas={OLD: 4}, open_replicas={OLD: 2})
    fleet.at(10.0, replicas={OLD: 2})
    assert fleet.core.gone == {2, 3}
    fleet.at(20.0, replicas={OLD: 1, NEW: 1})
    fleet.at(120.0)
    assert len(fleet.core.serving) == len(fleet.core.open) == 2


def test_a_plan_without_replicas_leaves_them_alone():
    fleet = Fleet(replicas={OLD: 2})
    shares = np.ones((1, 9))
    assert fleet.at(10.0, clocks_mhz={OLD: 990.0}, shares=shares)
    assert fleet.core.serving == [0, 1]
    assert fleet.core.clocks_mhz == [990.0, 990.0]
    assert fleet.core.shares is shares


def test_governors_hold_a_group_until_a_fixed_clock_ends_it():
    fleet = Fleet(replicas={OLD: 1}, governed={OLD: CLAIM})
    assert fleet.managed.claims == {0: CLAIM}
    assert fleet.core.clocks_mhz == [1200.0]
    fleet.at(10.0, replicas={OLD: 2})
    assert fleet.managed.claims == {0: CLAIM, 1: CLAIM}
    fleet.at(20.0, clocks_mhz={OLD: 990.0})
    assert fleet.managed.claims == {}
    assert fleet.core.clocks_mhz == [990.0, 990.0]


@pytest.mark.parametrize("order", ["governed", "open_replicas", "clocks_mhz"])
def test_a_refused_plan_says_nothing_else_either(order):
    fleet = Fleet(servers=1, replicas={OLD: 8})
    value = {"governed": CLAIM, "open_replicas": 1, "clocks_mhz": 990.0}[order]
    assert not fleet.at(10.0, **{"replicas": {NEW: 1}, order: {OLD: value}})
    assert fleet.managed.claims == {}
    assert fleet.core.open == list(range(8))
    assert set(fleet.core.clocks_mhz) == {SHAPE.replica.gpu.default_clock_mhz}
