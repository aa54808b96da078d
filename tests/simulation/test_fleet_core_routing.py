"""Which replica requests go to: by load, by class, by the shares of pools, and anew while they wait."""

import dataclasses

import numpy as np
import pytest

from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape

from .hand_fleets import OBJECTIVES, REPLICA, SETTINGS, arrive, fleet, load_of, trace


def test_requests_go_to_the_replica_with_the_fewest():
    core = fleet(3)
    core.advance(0.001, trace(*((0.0, 500, 50) for _ in range(7))))
    snapshot = core.snapshot()
    assert (snapshot.running + snapshot.waiting).tolist() == [3, 2, 2]


def test_classes_go_to_eligible_pools_only():
    eligible = np.zeros((2, 9), bool)
    eligible[0, :3], eligible[1, 3:] = True, True
    core = FleetCore([ReplicaShape(REPLICA, SETTINGS)], OBJECTIVES, eligible=eligible)
    core.add_replica(0, clock_mhz=2000.0, pool=0)
    core.add_replica(0, clock_mhz=2000.0, pool=1)
    core.advance(0.001, trace((0.0, 2000, 50), (0.0, 300, 50), (0.0, 10, 50)))
    snapshot = core.snapshot()
    assert (snapshot.running + snapshot.waiting).tolist() == [1, 2]


def test_a_closed_replica_gets_nothing_new_but_goes_on():
    core = fleet(3)
    arrive(core, *[(500, 50)] * 3)
    core.set_open(1, False)
    arrive(core, *[(500, 50)] * 4)
    assert load_of(core) == [3, 1, 3]
    assert core.snapshot().open.tolist() == [True, False, True]
    assert core.snapshot().arrived.tolist() == [3, 1, 3]
    core.set_open(1, True)
    arrive(core, *[(500, 50)] * 3)
    assert load_of(core) == [4, 3, 3]
    core.finish(100.0)
    assert core.tally().finished.sum() == 10
    assert core.snapshot().arrived.tolist() == core.snapshot().finished.tolist() == [4, 3, 3]


def test_closed_replicas_take_over_when_the_open_ones_are_gone():
    core = fleet(3)
    for replica in (0, 1):
        core.set_open(replica, False)
    arrive(core, (500, 50))
    assert load_of(core) == [0, 0, 1]
    core.drain(2)
    arrive(core, *[(500, 50)] * 4)
    assert load_of(core) == [2, 2, 1]


def test_a_replica_may_be_closed_before_it_serves():
    core = fleet(1)
    core.add_replica(0, clock_mhz=2000.0, ready_s=1.0)
    core.set_open(1, False)
    core.advance(2.0)
    arrive(core, *[(500, 50)] * 3)
    assert load_of(core) == [3, 0]


def test_a_closed_replica_takes_what_the_open_ones_cannot_hold():
    small = dataclasses.replace(SETTINGS, kv_capacity_tokens=1600)
    core = FleetCore([ReplicaShape(REPLICA, small), ReplicaShape(REPLICA, SETTINGS)], OBJECTIVES)
    for shape in (0, 1):
        core.add_replica(shape, clock_mhz=2000.0)
    core.set_open(1, False)
    arrive(core, (1000, 50), (1000, 601), (1000, 50))
    assert load_of(core) == [2, 1]


def pooled(shares, *, replicas=(0, 1), shapes=(SETTINGS,), **options):
    """A fleet of pools that may serve everything, with replicas of these pools; the same shares for all classes."""
    pools = len(shares)
    core = FleetCore(
        [ReplicaShape(REPLICA, each) for each in shapes], OBJECTIVES, eligible=np.ones((pools, 9), bool), **options
    )
    for pool in replicas:
        core.add_replica(min(pool, len(shapes) - 1), clock_mhz=2000.0, pool=pool)
    core.set_shares(np.repeat(np.array(shares)[:, None], 9, axis=1))
    return core


def test_pools_get_their_shares_and_their_replicas_the_same_load():
    core = pooled([0.25, 0.75], replicas=[0, 1, 1])
    arrive(core, *[(500, 50)] * 16)
    assert load_of(core) == [4, 6, 6]
    core.set_shares(None)
    arrive(core, *[(500, 50)] * 5)
    assert load_of(core) == [7, 7, 7]


def test_each_class_is_shared_by_itself():
    core = pooled([0.5, 0.5])
    arrive(core, *[(500, 50), (10, 50)] * 10)
    assert load_of(core) == [10, 10]
    tokens = core.snapshot().queued_prefill_tokens + core.snapshot().decode_context_tokens
    assert tokens[0] == pytest.approx(tokens[1], abs=2500)


def test_a_closed_replica_of_the_pool_comes_before_an_open_one_of_another():
    core = pooled([1.0, 0.0])
    core.set_open(0, False)
    arrive(core, (500, 50))
    assert load_of(core) == [1, 0]


def test_other_pools_serve_what_a_pool_cannot_and_the_shares_go_on_as_if_it_had():
    core = pooled([0.5, 0.5], replicas=[0, 1, 1])
    core.drain(0)
    arrive(core, *[(500, 50)] * 4)
    assert load_of(core) == [0, 2, 2]
    core.add_replica(0, clock_mhz=2000.0, pool=0)
    arrive(core, *[(500, 50)] * 4)
    assert load_of(core) == [0, 3, 3, 2]


def test_a_pool_too_small_for_a_request_leaves_it_to_others():
    core = pooled([1.0, 0.0], shapes=[dataclasses.replace(SETTINGS, kv_capacity_tokens=1600), SETTINGS])
    arrive(core, (1000, 50), (1000, 601))
    assert load_of(core) == [1, 1]
    assert core.tally().rejected == 0


def test_requests_are_routed_by_what_they_seem_and_count_as_what_they_are():
    eligible = np.zeros((3, 9), bool)
    eligible[[0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 3, 6, 1, 4, 7, 2, 5, 8]] = True  # by output
    predictor = LengthPredictor(0.6)
    core = FleetCore([ReplicaShape(REPLICA, SETTINGS)], OBJECTIVES, eligible=eligible, predictor=predictor)
    for pool in range(3):
        core.add_replica(0, clock_mhz=2000.0, pool=pool)
    for _ in range(2):
        arrive(core, *[(500, 200)] * 100)
    predicted = predictor.predicted(0, np.full(200, 4))
    assert core.snapshot().arrived.tolist() == np.bincount(predicted - 3).tolist()
    assert core.tally().requests.tolist() == [0] * 4 + [200] + [0] * 4


def test_waiting_requests_go_to_where_fewer_wait():
    core = fleet(2, settings=dataclasses.replace(SETTINGS, max_num_seqs=4))
    core.set_open(1, False)
    arrive(core, *[(500, 400)] * 12, after_s=1.0)
    assert core.snapshot().waiting.tolist() == [8, 0]
    # The idle one begins with the first at once; then both have the same queues, but for one.
    assert core.reroute_waiting(0) == 5
    assert core.snapshot().waiting.tolist() == [3, 4]
    core.advance(core.now_s + 1.0)
    assert core.snapshot().waiting.tolist() == [3, 1]
    assert core.snapshot().running.tolist() == [4, 4]
    assert core.snapshot().arrived.tolist() == [12, 5]
    assert core.reroute_waiting(1) == 0
    core.finish(1000.0)
    assert core.tally().finished.sum() == 12
    assert np.isfinite(core.requests().end_s).all()


def test_nothing_is_rerouted_to_where_it_may_not_go():
    eligible = np.zeros((2, 9), bool)
    eligible[0], eligible[1, 0] = True, True
    small = dataclasses.replace(SETTINGS, max_num_seqs=1)
    core = FleetCore([ReplicaShape(REPLICA, small)], OBJECTIVES, eligible=eligible)
    for pool in (0, 1, 0):
        core.add_replica(0, clock_mhz=2000.0, pool=pool)
    core.drain(2)
    core.set_open(1, False)
    arrive(core, (500, 400), *[(500, 50)] * 3, after_s=0.5)
    assert core.snapshot().waiting.tolist() == [3, 0, 0]
    assert core.reroute_waiting(0) == core.reroute_waiting(2) == 0
    assert core.snapshot().waiting.tolist() == [3, 0, 0]
