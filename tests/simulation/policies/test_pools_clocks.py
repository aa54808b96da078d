from types import SimpleNamespace

import numpy as np
import pytest

from dynawatt.simulation.fleet_core import ReplicaState
from dynawatt.simulation.policies.pools_clocks import LOOK_S, InstanceManager
from dynawatt.simulation.policy import Group

from .small_pools import profile

PROFILE = profile(8, 2.0)
WORK = (1e-3, 1e-2)


class View:
    """Replicas of one group whose counters the test sets."""

    def __init__(self, replicas=1):
        self.replicas = replicas
        self.work = np.zeros(replicas)
        self.queued = np.zeros(replicas)
        self.rerouted = []

    def snapshot(self):
        count = self.replicas
        zeros = np.zeros(count)
        return SimpleNamespace(
            id=np.arange(count),
            shape=zeros.astype(int),
            pool=zeros.astype(int),
            state=np.full(count, int(ReplicaState.SERVING)),
            prompt_tokens=self.work / 2 / WORK[0],
            queued_prefill_tokens=self.queued,
            first_tokens=zeros,
            gaps=self.work / 2 / WORK[1],
        )

    def reroute_waiting(self, replica):
        self.rerouted.append(replica)
        return 1


def look(manager, view, now_s, patience_s=0.4):
    return manager.step(now_s, view, lambda group: PROFILE, lambda pool: patience_s)


def run(manager, view, loads, begin_s=0.0, looks=20):
    """Let work come at these loads; the last clocks."""
    clocks = {}
    for step in range(1, looks + 1):
        view.work = view.work + np.array(loads) * LOOK_S
        clocks = look(manager, view, begin_s + step * LOOK_S)
    return clocks


@pytest.mark.parametrize(("load", "clock_mhz"), [(0.5, 1000), (0.95, 1000), (1.05, 2000), (2.5, 2000)])
def test_the_cheapest_clock_that_carries_the_load(load, clock_mhz):
    assert run(InstanceManager(WORK), View(), [load]) == {0: clock_mhz}


def test_every_replica_goes_by_its_own_load():
    assert run(InstanceManager(WORK), View(2), [0.5, 1.5]) == {0: 1000, 1: 2000}


def test_a_new_replica_keeps_its_clock_until_its_load_is_known():
    manager, view = InstanceManager(WORK), View()
    assert run(manager, view, [0.5], looks=6) == {}
    assert run(manager, view, [0.5], begin_s=30.0, looks=1) == {0: 1000}


def test_a_queue_beyond_the_objective_is_an_emergency():
    manager, view = InstanceManager(WORK), View()
    run(manager, view, [0.1])
    view.queued = np.array([500.0])  # half a second of prefill
    assert look(manager, view, 105.0) == {0: 2000}
    assert view.rerouted == []
    assert look(manager, view, 110.0) == {0: 2000}
    assert view.rerouted == [0]
    view.queued = np.array([300.0])
    assert look(manager, view, 115.0) == {0: 1000}


def test_prompts_that_wait_are_load_as_well():
    manager, view = InstanceManager(WORK), View()
    run(manager, view, [0.5])
    for step in range(1, 13):
        view.work = view.work + 0.5 * LOOK_S
        view.queued = view.queued + 0.6 * LOOK_S / WORK[0]
        clocks = look(manager, view, 100.0 + step * LOOK_S, patience_s=1e9)
    assert clocks == {0: 2000}


def test_the_tokens_of_a_mean_request_are_its_work_whatever_a_token_was_fitted_to():
    assert PROFILE.load_of((500.0, 50.0), (7.0, 3.0)) == pytest.approx(PROFILE.weight)


def test_shapes_without_a_profile_are_left_alone():
    manager, view = InstanceManager(WORK), View()
    for step in range(1, 20):
        assert manager.step(step * LOOK_S, view, lambda group: None, lambda pool: 1.0) == {}


def test_a_group_is_asked_for_as_one_load():
    """Two replicas at half the capacity each: what a single one carries does not matter."""
    asked = []

    class Recorded:
        fixed = PROFILE.fixed
        load_of = PROFILE.load_of

        def clock_mhz(self, replicas, load):
            asked.append((replicas, round(load, 6)))
            return 1000

    manager, view = InstanceManager(WORK), View(2)
    for step in range(1, 10):
        view.work = view.work + np.array([0.5, 0.5]) * LOOK_S
        manager.step(step * LOOK_S, view, lambda group: Recorded() if group == Group(0, 0) else None, lambda pool: 1.0)
    assert asked[-1] == (2, 1.0)
