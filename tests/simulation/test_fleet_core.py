import dataclasses

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.perfmodel.models import Batch, chunk_pairs
from dynawatt.simulation.fleet_core import FleetCore, ReplicaShape, ReplicaState
from dynawatt.simulation.settings import QueueOrder
from dynawatt.simulation.tally import Cause
from dynawatt.workload.trace import Trace

from .hand_fleets import OBJECTIVES, REPLICA, SETTINGS, fleet, poisson, trace


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
