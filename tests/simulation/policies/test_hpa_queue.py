from dataclasses import replace

import numpy as np
import pytest

from dynawatt.errors import InvalidInputError
from dynawatt.simulation.driver import SimulationSettings, simulate
from dynawatt.simulation.policies.hpa_queue import (
    PRODUCTION_STACK,
    SYNC_S,
    Gauge,
    Trigger,
    hpa_queue,
    hpa_running,
    load_test_concurrency,
)
from dynawatt.simulation.policy import Group
from dynawatt.simulation.settings import QueueOrder
from dynawatt.workload.trace import Trace

from .small_study import OBJECTIVES, Seen, poisson, settings, small_study


@pytest.fixture
def policy():
    """A fleet of 4 in an inventory of 8."""
    return hpa_queue("hpa-queue", small_study())


def wanted(plan):
    return plan.replicas[Group(0)]


def synced(policy, *views):
    """Replicas wanted after one sync per view; the fleet begins as it does in a run."""
    policy.initial()
    return [wanted(policy.plan(SYNC_S * number, view)) for number, view in enumerate(views, start=1)]


@pytest.mark.parametrize(
    ("total", "present", "expected"),
    [
        (0, 4, 0),
        (5, 1, 1),
        (5.4, 1, 1),
        (5.6, 1, 2),
        (21.9, 4, 4),
        (22.1, 4, 5),
        (18.1, 4, 4),
        (17.9, 4, 4),
        (10, 4, 2),
    ],
)
def test_a_trigger_wants_its_target_on_average(total, present, expected):
    assert PRODUCTION_STACK.replicas(total, present) == expected


def test_it_begins_as_the_tuned_static_fleet_served_in_order_of_arrival(policy):
    assert wanted(policy.initial()) == 4
    assert policy.shape.settings == settings(None, QueueOrder.FCFS)
    deadline = replace(settings(None, QueueOrder.DEADLINE))
    assert hpa_queue("x", small_study(single_settings=deadline)).shape.settings.queue_order is QueueOrder.FCFS


def test_without_a_queue_it_shrinks_to_one_after_five_minutes(policy):
    steps = synced(policy, *[Seen(serving=4)] * 21)
    assert steps == [4] * 19 + [1, 1]


def test_a_single_busy_look_holds_the_fleet_for_five_minutes(policy):
    idle, busy = Seen(serving=4), Seen(serving=4, waiting=15)
    steps = synced(policy, *[idle] * 10, busy, *[idle] * 21)
    assert steps[19:30] == [3] * 11
    assert steps[30:] == [1, 1]


@pytest.mark.parametrize(("start", "expected"), [(1, [5, 8]), (3, [7, 8]), (6, [8, 8])])
def test_growth_is_limited_to_four_pods_or_twice_the_fleet(start, expected):
    policy = hpa_queue("hpa-queue", small_study(single_replicas=start))
    assert synced(policy, *[Seen(serving=start, waiting=1000)] * 2) == expected
    large = hpa_queue("hpa-queue", small_study(single_replicas=start, servers=5))
    assert synced(large, *[Seen(serving=start, waiting=10_000)] * 2)[0] == max(2 * start, start + 4)


def test_asked_once_a_minute_it_grows_as_in_four_looks():
    policy = hpa_queue("hpa-queue", small_study(single_replicas=1, servers=5))
    policy.initial()
    busy = Seen(serving=1, waiting=10_000)
    assert [wanted(policy.plan(now_s, busy)) for now_s in (15.0, 75.0)] == [5, 40]
    policy.initial()
    assert wanted(policy.plan(30.0, busy)) == 10


def test_pods_that_still_start_count_as_replicas():
    policy = hpa_queue("hpa-queue", small_study(single_replicas=8, servers=5))
    # 42 are near enough to 5 for each of 8 replicas, and too many for each of the 4 that serve.
    assert synced(policy, Seen(serving=4, starting=4, waiting=42)) == [8]
    assert synced(policy, Seen(serving=4, waiting=42)) == [9]


def test_the_trigger_that_wants_more_decides():
    policy = hpa_queue("hpa-queue", small_study())
    policy.triggers = (Trigger(Gauge.WAITING, 5.0), Trigger(Gauge.RUNNING, 10.0))
    assert synced(policy, Seen(serving=4, waiting=2, running=55)) == [6]
    assert synced(policy, Seen(serving=4, waiting=33, running=55)) == [7]


def test_a_run_grows_with_its_queue_and_every_request_counts():
    study = small_study(single_replicas=1, startup_s=30.0)
    policy = hpa_queue("hpa-queue", study)
    capacity_rps = 12.0
    quiet, busy = poisson(1.0, 0.0, 600.0), poisson(3 * capacity_rps, 600.0, 900.0)
    load = Trace(*(np.concatenate(pair) for pair in zip(columns(quiet), columns(busy), strict=True)))
    result = simulate(policy, [load], OBJECTIVES, SimulationSettings(1200.0, 1, startup_s=30.0))
    serving = result.series.replicas[0, 0]
    assert serving[: int(600 / 30)].max() == 1
    assert serving.max() > 2
    assert result.tally.ttft_attainment() < 0.9
    assert result.unfinished_requests == 0


def columns(trace):
    return trace.arrival_s, trace.input_tokens, trace.output_tokens


def test_the_load_test_tells_how_many_requests_are_in_progress():
    study = small_study()
    policy = hpa_running("hpa-running", study)
    queue, running = policy.triggers
    assert queue == PRODUCTION_STACK
    assert running.gauge is Gauge.RUNNING
    # Simulated at the rate that the static fleet just carries, that many are there on average.
    assert running.target == load_test_concurrency(study, policy.shape)
    assert 1 < running.target < policy.shape.settings.max_num_seqs


def test_a_load_test_that_no_load_passes_is_refused():
    impossible = replace(OBJECTIVES, tbt_s=1e-6)
    with pytest.raises(InvalidInputError, match="misses it under any load"):
        hpa_running("hpa-running", small_study(objectives=impossible))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(InvalidInputError, match="target 0 of vllm:num_requests_waiting"):
        Trigger(Gauge.WAITING, 0)
    with pytest.raises(InvalidInputError, match="has no settings of the tuned static fleet"):
        hpa_queue("hpa-queue", small_study(single_settings=None))
    with pytest.raises(InvalidInputError, match="inventory for hpa-queue: holds no replica"):
        hpa_queue("hpa-queue", small_study(servers=0))
