import dataclasses

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.routing.prediction import LengthPredictor
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape, ReplicaState
from dynawatt.simulation.settings import EngineSettings, QueueOrder
from dynawatt.simulation.tally import Cause
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

from .core.replicas import HandReplica

REPLICA = HandReplica()
SETTINGS = EngineSettings(max_num_batched_tokens=2048, max_num_seqs=64, kv_capacity_tokens=100_000)
OBJECTIVES = LatencyObjectives(((256, 0.25), (None, 1.0)), 0.05)


def fleet(replicas=1, *, settings=SETTINGS, clock_mhz=2000.0, **options):
    core = FleetCore([ReplicaShape(REPLICA, settings)], OBJECTIVES, keep_requests=True, **options)
    for _ in range(replicas):
        core.add_replica(0, clock_mhz=clock_mhz)
    return core


def trace(*rows):
    """Rows of (arrival, input, output)."""
    return Trace(*(np.array(column) for column in zip(*rows, strict=True)))


def poisson(seed, rate_rps, count):
    rng = np.random.default_rng(seed)
    return Trace(
        np.cumsum(rng.exponential(1 / rate_rps, count)),
        rng.integers(1, 3000, count),
        rng.geometric(1 / 150, count),
    )


def prefill_s(tokens, clock_mhz=2000.0):
    return REPLICA.step_s(Batch(0, 0, tokens, chunk_pairs(tokens, 0)), clock_mhz)


def decode_s(requests, context, clock_mhz=2000.0):
    return REPLICA.step_s(Batch(requests, context, 0, 0.0), clock_mhz)


def test_a_lone_request_takes_its_prefill_and_one_iteration_per_further_token():
    core = fleet()
    core.advance(1.0, trace((0.5, 100, 4)))
    first_s = prefill_s(100)
    end_s = 0.5 + first_s + sum(decode_s(1, context) for context in (101, 102, 103))
    assert core.requests().ttft_s == pytest.approx([first_s])
    assert core.requests().end_s == pytest.approx([end_s])
    tally = core.tally()
    assert tally.output_tokens == 4
    assert tally.busy_gpu_s == pytest.approx(8 * (end_s - 0.5))
    assert tally.gpu_s == pytest.approx(8 * 1.0)
    idle_w = REPLICA.at_clock(2000.0).idle_w
    assert tally.energy_j[Cause.IDLE] == pytest.approx(8 * idle_w * (1.0 - (end_s - 0.5)))


def test_how_time_is_cut_into_advances_changes_nothing():
    load = poisson(1, 20.0, 300)
    whole, pieces = fleet(2), fleet(2)
    whole.advance(20.0, load)
    for begin_s in np.arange(0.0, 20.0, 0.37):
        end_s = min(20.0, begin_s + 0.37)
        part = (load.arrival_s >= begin_s) & (load.arrival_s < end_s)
        columns = (load.arrival_s[part], load.input_tokens[part], load.output_tokens[part])
        pieces.advance(end_s, Trace(*columns))
    whole.finish(1000.0)
    pieces.finish(1000.0)
    assert whole.now_s == pytest.approx(pieces.now_s, rel=1e-12)
    np.testing.assert_allclose(whole.requests().end_s, pieces.requests().end_s, rtol=1e-12)
    for field in dataclasses.fields(whole.tally()):
        a, b = (getattr(core.tally(), field.name) for core in (whole, pieces))
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=field.name)


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


def load_of(core):
    snapshot = core.snapshot()
    return (snapshot.running + snapshot.waiting).tolist()


def arrive(core, *lengths, after_s=0.001):
    """Requests of these (input, output) tokens, all at once."""
    core.advance(core.now_s + after_s, trace(*((core.now_s, *each) for each in lengths)))


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


def test_requests_wait_for_a_replica_that_starts():
    core = fleet(0)
    core.add_replica(0, clock_mhz=800.0, ready_s=10.0)
    core.advance(5.0, trace((2.0, 100, 1), (3.0, 100, 1)))
    assert core.snapshot().state.tolist() == [ReplicaState.STARTING]
    assert np.isnan(core.requests().ttft_s).all()
    core.finish(100.0)
    first_s = prefill_s(100, 800.0)
    # The first to be placed is prefilled alone: it finds an idle replica.
    assert core.requests().ttft_s == pytest.approx([8.0 + first_s, 7.0 + 2 * first_s])
    idle_w = REPLICA.at_clock(800.0).idle_w
    assert core.tally().energy_j[Cause.STARTUP] == pytest.approx(8 * idle_w * 10.0)
    assert core.tally().ttft_attainment() == 0.0


def test_a_draining_replica_ends_what_it_has_and_lets_its_gpus_go():
    core = fleet(2)
    core.advance(0.01, trace((0.0, 100, 100), (0.005, 100, 1)))
    core.drain(0)
    assert core.snapshot().state.tolist() == [ReplicaState.DRAINING, ReplicaState.SERVING]
    core.advance(50.0, trace((0.02, 100, 200), (0.03, 100, 200)))
    assert core.snapshot().state.tolist() == [ReplicaState.GONE, ReplicaState.SERVING]
    first_end_s = core.requests().end_s[0]
    assert core.tally().gpu_s == pytest.approx(8 * (first_end_s + 50.0))
    # Both later requests shared the second replica: their tokens came at the same times.
    assert core.tally().gaps.sum() == 99 + 2 * 199
    assert core.tally().finished.sum() == 4


def test_draining_the_idle_and_the_starting_lets_go_at_once():
    core = fleet(1)
    core.add_replica(0, clock_mhz=2000.0, ready_s=10.0)
    core.advance(1.0)
    core.drain(0)
    core.drain(1)
    core.advance(20.0)
    assert core.snapshot().state.tolist() == [ReplicaState.GONE] * 2
    assert core.tally().gpu_s == pytest.approx(2 * 8 * 1.0)


def test_ids_count_up_while_slots_are_used_again():
    core = fleet(1)
    for identity in range(1, 40):
        core.drain(identity - 1)
        assert core.add_replica(0, clock_mhz=2000.0) == identity
    core.advance(1.0, trace((0.5, 100, 1)))
    assert core.snapshot().id.tolist() == list(range(40))
    assert core.snapshot().state.tolist() == [ReplicaState.GONE] * 39 + [ReplicaState.SERVING]
    assert core.tally().gpu_s == pytest.approx(8.0)


def test_a_clock_comes_into_force_after_the_delay_and_between_iterations():
    core = fleet(clock_delay_s=0.1)
    core.advance(0.05, trace((0.0, 100, 500)))
    core.set_clock(0, 800.0)
    core.advance(0.149)
    assert core.snapshot().clock_mhz.tolist() == [2000.0]
    core.finish(100.0)
    end_s, context = prefill_s(100), 101
    for _ in range(499):
        end_s += decode_s(1, context, 800.0 if end_s >= 0.15 else 2000.0)
        context += 1
    assert core.requests().end_s == pytest.approx([end_s], rel=1e-12)
    core.advance(core.now_s + 1.0)
    assert core.tally().energy_j[Cause.IDLE] == pytest.approx(8 * REPLICA.at_clock(800.0).idle_w)


def test_changes_of_clock_come_into_force_one_after_the_other():
    core = fleet(clock_delay_s=1.0)
    core.set_clock(0, 1400.0)
    core.advance(0.5)
    core.set_clock(0, 800.0)
    core.advance(3.0)
    idle_w = [REPLICA.at_clock(clock_mhz).idle_w for clock_mhz in (2000.0, 1400.0, 800.0)]
    expected_j = 8 * (1.0 * idle_w[0] + 0.5 * idle_w[1] + 1.5 * idle_w[2])
    assert core.tally().energy_j[Cause.IDLE] == pytest.approx(expected_j)


def test_rejects_what_no_replica_can_hold():
    core = fleet(settings=dataclasses.replace(SETTINGS, kv_capacity_tokens=1600))
    core.advance(10.0, trace((0.0, 1000, 600), (0.1, 1000, 601)))
    assert core.tally().rejected == 1
    assert core.tally().finished.sum() == 1
    assert core.tally().ttft_attainment() == 0.5
    core.finish(20.0)
    assert core.now_s == 10.0


def test_finish_stops_at_its_limit():
    core = fleet()
    core.advance(0.5, trace((0.0, 100, 90_000)))
    core.finish(2.0)
    assert core.now_s == 2.0
    assert core.tally().finished.sum() == 0
    assert core.snapshot().running.tolist() == [1]


def test_finish_ends_although_nothing_can_serve_what_waits():
    core = fleet(0)
    core.advance(1.0, trace((0.5, 100, 10)))
    core.finish(np.inf)
    assert core.now_s == 1.0
    assert core.tally().requests.sum() == 1


def test_deadlines_put_short_prompts_before_long_ones():
    """One 256-token prompt due in 0.25 s behind thirty long ones due in 1 s."""
    met = {}
    for order in QueueOrder:
        core = fleet(settings=dataclasses.replace(SETTINGS, queue_order=order))
        rows = [(0.001 * i, 3000, 5) for i in range(30)]
        core.advance(0.1, trace(*rows, (0.05, 200, 5)))
        core.finish(100.0)
        met[order] = core.requests().ttft_s[30] <= 0.25
    assert met == {QueueOrder.FCFS: False, QueueOrder.PRIORITY: True, QueueOrder.DEADLINE: True}


def test_memory_follows_the_requests_under_way():
    core = FleetCore([ReplicaShape(REPLICA, SETTINGS)], OBJECTIVES)
    core.add_replica(0, clock_mhz=2000.0)
    sizes = set()
    for part in range(50):
        load = poisson(part, 2.0, 100)
        core.advance(core.now_s + 200.0, Trace(load.arrival_s + core.now_s, load.input_tokens, load.output_tokens))
        sizes.add(sum(array.nbytes for array in core._core))
    assert core.tally().requests.sum() == 5000
    # It may grow once: the second hundred come while the last of the first are still there.
    assert len(sizes) <= 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dataclasses.replace(SETTINGS, max_num_seqs=2000, max_num_batched_tokens=4000), "max_num_seqs 2000"),
        (dataclasses.replace(SETTINGS, max_num_batched_tokens=32), "max_num_batched_tokens 32"),
        (dataclasses.replace(SETTINGS, max_num_batched_tokens=16384), "max_num_batched_tokens 16384"),
        (dataclasses.replace(SETTINGS, kv_capacity_tokens=15), "KV cache of 15 tokens"),
        (dataclasses.replace(SETTINGS, prefix_hit_ratio=1.1), "prefix hit ratio 1.1"),
    ],
)
def test_refuses_settings_outside_the_profile(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        fleet(settings=settings)


def test_refuses_what_makes_no_sense():
    core = fleet()
    core.advance(5.0)
    for wrong in (
        lambda: core.advance(4.0),
        lambda: core.finish(4.0),
        lambda: core.advance(6.0, trace((4.9, 1, 1))),
        lambda: core.advance(6.0, trace((6.0, 1, 1))),
        lambda: core.drain(1),
        lambda: core.set_clock(-1, 800.0),
        lambda: core.set_open(1, False),
        lambda: core.reroute_waiting(1),
        lambda: core.set_shares(np.full((1, 9), 0.9)),
        lambda: core.add_replica(1, clock_mhz=800.0),
        lambda: core.add_replica(0, clock_mhz=800.0, pool=1),
        lambda: FleetCore([], OBJECTIVES),
        lambda: FleetCore([ReplicaShape(REPLICA, SETTINGS)], OBJECTIVES, eligible=np.ones((1, 3), bool)),
        lambda: FleetCore([ReplicaShape(REPLICA, SETTINGS)], OBJECTIVES, clock_delay_s=-1.0),
        lambda: FleetCore([ReplicaShape(REPLICA, SETTINGS)], OBJECTIVES).requests(),
    ):
        with pytest.raises(InvalidInputError):
            wrong()
