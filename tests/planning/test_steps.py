"""Steps towards a plan: one situation each, then whole changes on simulated pods."""

from itertools import combinations
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynawatt.planning.replica_counts import ShapeCount
from dynawatt.planning.room import NodeRoom
from dynawatt.planning.step import Scale, StepKind
from dynawatt.planning.steps import Attempts, next_step

from .pods import KINDS, OVERDUE_TICKS, STARTUP_TICKS, Pods


def count(name, ready=0, desired=None, **more):
    gpus, capacity_rps = KINDS[name]
    others = sum(more.get(key, 0) for key in ("starting", "overdue"))
    return ShapeCount(gpus, capacity_rps, ready + others if desired is None else desired, ready, **more)


def step(goal, *, free=(), nodes=None, max_gpus=None, needed_rps=0.0, min_replicas=1, barred=(), start=True, drain=True,
         **shapes):  # fmt: skip
    return next_step(
        goal,
        shapes,
        nodes=[NodeRoom(str(node), gpus) for node, gpus in enumerate(free)] if nodes is None else nodes,
        max_gpus=max_gpus,
        needed_rps=needed_rps,
        min_replicas=min_replicas,
        barred=barred,
        may_start=start,
        may_drain=drain,
    )


def run(pods, goal, ticks=80, **terms):
    """Step until nothing goes on by itself; all steps that wrote something, and the last one."""
    terms = {"max_gpus": None, "needed_rps": 0.0, "min_replicas": 1} | terms
    writes = []
    for _ in range(ticks):
        found = next_step(goal, pods.shapes(), nodes=pods.nodes(), **terms)
        if found.kind in (StepKind.DONE, StepKind.BLOCKED):
            break
        if found.scale is not None:
            writes.append(found)
            pods.scale(found.scale)
        pods.tick()
    return writes, found


# --- Growing and starting ---


def test_growth_takes_what_fits_on_single_nodes():
    found = step({"tp8": 3}, free=[8, 4, 4], tp8=count("tp8", ready=1))
    assert (found.kind, found.reason, found.scale) == (StepKind.START, "Scaling", Scale("tp8", 2))


def test_two_half_free_nodes_have_no_room_for_a_whole_one():
    found = step({"tp8": 1}, free=[4, 4], tp2=count("tp2", ready=2), tp8=count("tp8"))
    assert (found.kind, found.reason) == (StepKind.BLOCKED, "NoSpareCapacity")
    assert "1 replica of tp8 missing: each needs 8 free GPUs on one node, the freest has 4" in found.message


def test_pods_without_a_node_take_theirs_before_others():
    shapes = {"tp4": count("tp4", ready=1, starting=1, unscheduled=1)}
    assert step({"tp4": 4}, free=[8], **shapes).scale == Scale("tp4", 3)
    assert step({"tp4": 4}, free=[4], **shapes).kind is StepKind.WAIT


def test_a_pod_that_is_still_to_be_created_takes_room():
    assert step({"tp8": 3}, free=[8], tp8=count("tp8", ready=1, desired=2)).kind is StepKind.WAIT


def test_the_limit_counts_pods_that_stop():
    shapes = {"tp2": count("tp2", ready=1), "tp8": count("tp8", stopping=1)}
    assert step({"tp2": 4}, free=[8], max_gpus=14, **shapes).scale == Scale("tp2", 3)
    blocked = step({"tp2": 4}, free=[8], max_gpus=3, tp2=count("tp2", ready=1))
    assert "each needs 2 GPUs, the limit of 3 for the service leaves 1" in blocked.message


def test_one_shape_starts_at_a_time():
    shapes = {"tp2": count("tp2", ready=2, starting=1), "tp8": count("tp8")}
    assert step({"tp8": 1}, free=[8, 8], needed_rps=4, **shapes).kind is StepKind.WAIT


def test_a_shortage_does_not_wait_for_another_shape():
    shapes = {"tp2": count("tp2", ready=2, starting=1), "tp8": count("tp8")}
    assert step({"tp8": 1}, free=[8, 8], needed_rps=5, **shapes).scale == Scale("tp8", 1)


def test_more_of_what_starts_may_start():
    assert step({"tp8": 3}, free=[8], tp8=count("tp8", ready=1, starting=1)).scale == Scale("tp8", 3)


# --- Draining ---


@pytest.mark.parametrize(
    ("needed_rps", "ready", "left"),
    [
        (0.0, 4, 2),  # as the goal carries
        (5.0, 4, 4),  # 5 needs all four, 1.5 each
        (4.4, 4, 3),
        (9.0, 4, 4),  # short already: nothing goes
    ],
)
def test_shrinking_leaves_what_the_goal_and_the_load_need(needed_rps, ready, left):
    found = step({"tp2": 2}, needed_rps=needed_rps, tp2=count("tp2", ready=ready))
    assert (found.scale or Scale("tp2", ready)) == Scale("tp2", left)


def test_old_replicas_go_as_far_as_new_ones_make_up_for_them():
    # 2 x 8 + 8 x 1.5 = 28; the goal carries 24.
    shapes = {"tp2": count("tp2", ready=8), "tp8": count("tp8", ready=2)}
    found = step({"tp8": 3}, free=[0], needed_rps=20, **shapes)
    assert (found.kind, found.scale) == (StepKind.DRAIN, Scale("tp2", 6))


def test_nothing_is_drained_while_something_starts():
    found = step({"tp8": 3}, free=[0], tp2=count("tp2", ready=8), tp8=count("tp8", ready=2, starting=1))
    assert found.kind is StepKind.WAIT


def test_the_last_ready_replica_stays_until_another_is_ready():
    assert step({"tp8": 1}, free=[0], tp2=count("tp2", ready=1), tp8=count("tp8")).kind is StepKind.BLOCKED
    assert step({"tp8": 1}, tp2=count("tp2", ready=1), tp8=count("tp8", ready=1)).scale == Scale("tp2", 0)
    assert step({"tp2": 0}, min_replicas=0, tp2=count("tp2", ready=1)).scale == Scale("tp2", 0)


def test_fewest_replicas_are_kept_whatever_they_carry():
    shapes = {"tp2": count("tp2", ready=6), "tp8": count("tp8", ready=2)}
    assert step({"tp8": 2}, min_replicas=4, **shapes).scale == Scale("tp2", 2)


def test_replicas_that_are_about_to_go_do_not_serve():
    # Two of four are as good as gone, so the other two carry the load.
    shapes = {"tp2": count("tp2", ready=4, desired=2), "tp4": count("tp4")}
    assert step({"tp4": 1}, free=[2], needed_rps=3, **shapes).kind is StepKind.WAIT


def test_capacity_that_just_suffices_suffices():
    shapes = {"tp1": count("tp1", ready=3), "tp2": count("tp2", ready=2)}
    assert step({"tp2": 2}, needed_rps=0.6 + 0.6 + 3.0, **shapes).scale == Scale("tp1", 2)


@pytest.mark.parametrize(
    ("more", "reason"),
    [({"drain": False}, "OutsideChangeWindow"), ({}, "DisruptionNotAllowed")],
)
def test_what_forbids_draining_is_named(more, reason):
    found = step({"tp2": 1}, tp2=count("tp2", ready=2, drainable=0), **more)
    assert (found.kind, found.reason, found.scale) == (StepKind.BLOCKED, reason, None)


def test_no_more_is_drained_than_a_budget_allows():
    assert step({"tp2": 1}, tp2=count("tp2", ready=5, drainable=2)).scale == Scale("tp2", 3)


def test_outside_the_windows_nothing_is_started():
    found = step({"tp2": 2}, free=[8], start=False, tp2=count("tp2", ready=1))
    assert (found.kind, found.reason) == (StepKind.BLOCKED, "OutsideChangeWindow")


# --- Making room ---

FULL = (NodeRoom("a", 0, 0, {"tp2": 4}), NodeRoom("b", 2, 0, {"tp2": 3}))


def test_room_is_made_where_least_is_given_up():
    shapes = {"tp2": count("tp2", ready=7), "tp8": count("tp8")}
    assert step({"tp8": 2}, nodes=FULL, needed_rps=6, **shapes).scale == Scale("tp2", 4, "b")


def test_no_room_is_made_that_the_load_does_not_allow():
    shapes = {"tp2": count("tp2", ready=7), "tp8": count("tp8")}
    found = step({"tp8": 2}, nodes=FULL, needed_rps=6.1, **shapes)
    assert (found.kind, found.reason) == (StepKind.BLOCKED, "NoSpareCapacity")


def test_nothing_is_given_up_where_no_room_can_come_of_it():
    nodes = [NodeRoom("a", 4, 0, {"tp2": 1}), NodeRoom("b", 4, 0, {"tp2": 1})]
    assert step({"tp8": 1}, nodes=nodes, tp2=count("tp2", ready=2), tp8=count("tp8")).kind is StepKind.BLOCKED


def test_room_that_is_coming_is_awaited():
    nodes = [NodeRoom("a", 4, 4, {"tp2": 0}), NodeRoom("b", 0, 0, {"tp2": 4})]
    shapes = {"tp2": count("tp2", ready=4, stopping=2), "tp8": count("tp8")}
    assert step({"tp8": 1}, nodes=nodes, **shapes).kind is StepKind.WAIT


def test_pods_that_are_about_to_stop_are_awaited_before_more_go():
    shapes = {"tp2": count("tp2", ready=7, desired=4), "tp8": count("tp8")}
    assert step({"tp8": 2}, nodes=FULL, **shapes).kind is StepKind.WAIT


def test_room_is_made_within_the_limit_too():
    shapes = {"tp2": count("tp2", ready=4), "tp4": count("tp4")}
    found = step({"tp4": 2}, free=[8], max_gpus=8, needed_rps=3, **shapes)
    assert (found.kind, found.scale) == (StepKind.DRAIN, Scale("tp2", 2))


def test_a_budget_keeps_room_from_being_made():
    shapes = {"tp2": count("tp2", ready=7, drainable=2), "tp8": count("tp8")}
    assert step({"tp8": 2}, nodes=FULL, **shapes).reason == "DisruptionNotAllowed"


# --- Replicas that do not become Ready ---


def test_overdue_replicas_are_rolled_back():
    found = step({"tp8": 3}, needed_rps=5, tp2=count("tp2", ready=4), tp8=count("tp8", ready=1, overdue=2))
    assert (found.kind, found.reason, found.scale) == (StepKind.ROLL_BACK, "ReshapeFailed", Scale("tp8", 1))


def test_what_starts_beside_overdue_ones_is_awaited():
    found = step({"tp8": 3}, tp2=count("tp2", ready=4), tp8=count("tp8", starting=1, overdue=2))
    assert found.kind is StepKind.WAIT


def test_a_barred_shape_is_not_rolled_back_twice():
    shapes = {"tp2": count("tp2", ready=4), "tp8": count("tp8", overdue=1)}
    assert step({"tp8": 1}, barred=["tp8"], **shapes).kind is StepKind.DROP


def test_a_barred_shape_is_left_alone_and_nothing_is_drained_for_it():
    shapes = {"tp2": count("tp2", ready=8), "tp8": count("tp8", ready=1)}
    found = step({"tp8": 2}, free=[8], barred=["tp8"], **shapes)
    assert (found.kind, found.reason, found.scale) == (StepKind.BLOCKED, "ReshapeFailed", None)


def test_more_of_the_only_shape_is_tried_in_a_shortage():
    assert step({"tp8": 3}, free=[8], needed_rps=9, barred=["tp8"], tp8=count("tp8", ready=1)).scale == Scale("tp8", 2)
    stuck = count("tp8", ready=1, overdue=1)
    assert step({"tp8": 2}, needed_rps=9, barred=["tp8"], tp8=stuck).kind is StepKind.WAIT
    assert step({"tp8": 2}, needed_rps=7, tp8=stuck).kind is StepKind.ROLL_BACK


def test_what_is_stuck_and_not_wanted_is_dropped_whatever_windows_and_budgets_say():
    shapes = {"tp2": count("tp2", ready=3, overdue=1, drainable=0), "tp8": count("tp8", ready=1)}
    found = step({"tp8": 1}, start=False, drain=False, **shapes)
    assert (found.kind, found.scale) == (StepKind.DROP, Scale("tp2", 3))


def test_where_nothing_serves_what_may_come_back_stays():
    shapes = {"tp2": count("tp2", overdue=4), "tp8": count("tp8")}
    assert step({"tp8": 1}, min_replicas=2, **shapes).scale == Scale("tp2", 2)
    assert step({"tp8": 1}, free=[8], min_replicas=2, tp2=count("tp2", overdue=2), tp8=count("tp8")).scale == Scale(
        "tp8", 1
    )


def test_waits_double_up_to_two_hours():
    attempts, waits = Attempts(), []
    assert not attempts.bars(0.0)
    for _ in range(7):
        attempts = attempts.after_failure(1000.0)
        assert attempts.bars(attempts.retry_s - 1)
        assert not attempts.bars(attempts.retry_s)
        waits.append(attempts.retry_s - 1000.0)
    assert waits == [300, 600, 1200, 2400, 4800, 7200, 7200]
    assert Attempts(5000, 0.0).after_failure(0.0) == Attempts(5001, 7200.0)


# --- Whole changes ---


def test_a_reshape_in_a_full_cluster_goes_in_turns():
    pods = Pods.serving([0, 0, 8], tp2=[0] * 4 + [1] * 4, tp8=[])
    writes, last = run(pods, {"tp8": 2}, needed_rps=11)
    assert [(each.kind.value, *each.scale) for each in writes] == [
        ("Start", "tp8", 1, None),
        ("Drain", "tp2", 6, "0"),  # 8 + 6 x 1.5 = 17 of the 16 that the goal carries
        ("Drain", "tp2", 4, "0"),  # the rest of that node makes room: 14 are enough for the load
        ("Start", "tp8", 2, None),
        ("Drain", "tp2", 0, None),
    ]
    assert last.kind is StepKind.DONE
    assert pods.counts() == {"tp8": 2}


def test_a_shape_that_never_starts_leaves_the_old_one_as_it_was():
    pods = Pods.serving([8, 0], tp2=[1] * 4, tp8=[])
    pods.stuck.add("tp8")
    writes, _ = run(pods, {"tp8": 1}, ticks=OVERDUE_TICKS + 2, needed_rps=4)
    assert [each.kind for each in writes] == [StepKind.START, StepKind.ROLL_BACK]
    _, last = run(pods, {"tp2": 4}, barred=["tp8"], needed_rps=4)
    assert last.kind is StepKind.DONE
    assert (pods.counts(), pods.free) == ({"tp2": 4}, [8, 0])


def test_a_goal_that_turns_back_lets_what_starts_start():
    pods = Pods.serving([8, 8], tp2=[], tp8=[])
    pods.desired["tp2"] = 3
    for _ in range(STARTUP_TICKS + 1):
        pods.tick()
    run(pods, {"tp8": 1}, ticks=2)
    writes, last = run(pods, {"tp2": 3})
    assert [(each.kind.value, *each.scale) for each in writes] == [("Drain", "tp8", 0, None)]
    assert last.kind is StepKind.DONE


SIZES = st.dictionaries(st.sampled_from(sorted(KINDS)), st.integers(1, 5), min_size=1, max_size=3)


@settings(deadline=None)
@given(start=SIZES, goal=SIZES, needed_part=st.floats(0, 1.3), budget=st.integers(1, 3))
def test_with_room_every_change_ends_without_turning_back(start, goal, needed_part, budget):
    """Never less Ready than the lesser of both fleets, nor than the load needs where it had as much."""
    pods = Pods([8] * 40, dict.fromkeys(KINDS, 0) | start)
    for _ in range(STARTUP_TICKS + 1):
        pods.tick()
    pods.drainable = dict.fromkeys(KINDS, budget)
    began_rps, goal_rps = pods.capacity_rps(), sum(KINDS[name][1] * count for name, count in goal.items())
    needed_rps = needed_part * goal_rps
    moved = {name: [count] for name, count in pods.desired.items()}
    for _ in range(150):
        found = next_step(goal, pods.shapes(), nodes=pods.nodes(), max_gpus=None, needed_rps=needed_rps, min_replicas=1)
        if found.scale is not None:
            pods.scale(found.scale)
            moved[found.scale.deployment].append(found.scale.replicas)
        pods.reconcile()
        assert pods.capacity_rps() >= min(began_rps, max(goal_rps, needed_rps)) - 1e-6
        if found.kind is StepKind.DONE:
            break
        pods.tick()
    else:
        # More than the goal carries is needed, so some of the old ones stay.
        assert needed_rps > goal_rps
        assert "not drained yet" in found.message
    for counts in moved.values():
        assert counts in (sorted(counts), sorted(counts, reverse=True))
    if needed_rps <= goal_rps:
        assert pods.counts() == goal


@settings(deadline=None)
@given(start=SIZES, goal=SIZES, needed_part=st.floats(0, 1), spare=st.lists(st.integers(0, 8), max_size=3))
def test_in_a_full_cluster_it_gets_as_far_as_the_load_allows(start, goal, needed_part, spare):
    pods = Pods([8] * 10, dict.fromkeys(KINDS, 0) | start)
    for _ in range(STARTUP_TICKS + 1):
        pods.tick()
    pods.free = [0] * 10 + spare
    began_rps = pods.capacity_rps()
    needed_rps = needed_part * began_rps
    moved = {name: [count] for name, count in pods.desired.items()}
    for _ in range(150):
        found = next_step(goal, pods.shapes(), nodes=pods.nodes(), max_gpus=None, needed_rps=needed_rps, min_replicas=1)
        if found.scale is not None:
            pods.scale(found.scale)
            moved[found.scale.deployment].append(found.scale.replicas)
        if found.kind in (StepKind.DONE, StepKind.BLOCKED) or "not drained yet" in found.message:
            break
        pods.tick()
        assert pods.capacity_rps() >= needed_rps - 1e-6
        assert pods.ready()
    else:
        pytest.fail(f"still at it: {found}")
    for counts in moved.values():
        assert counts in (sorted(counts), sorted(counts, reverse=True))
    if found.kind is StepKind.BLOCKED:
        assert found.reason == "NoSpareCapacity"
        assert not can_make_room(pods, goal, needed_rps)


def can_make_room(pods, goal, needed_rps):
    """Whether any set of pods on one node could go for the smallest replica that is missing."""
    gpus = min(KINDS[name][0] for name, count in goal.items() if count > pods.desired[name])
    surplus = {name: sum(pod.shape == name for pod in pods.pods) - goal.get(name, 0) for name in KINDS}
    for node, free in enumerate(pods.free):
        here = [pod.shape for pod in pods.pods if pod.node == node]
        for chosen in {way for size in range(len(here) + 1) for way in combinations(sorted(here), size)}:
            has_room = free + sum(KINDS[name][0] for name in chosen) >= gpus
            may_go = all(chosen.count(name) <= surplus[name] for name in chosen) and len(chosen) < pods.ready()
            if has_room and may_go and pods.capacity_rps() - sum(KINDS[name][1] for name in chosen) >= needed_rps:
                return True
    return False


@given(st.floats(0, inf), st.floats(0, inf))
def test_time_moves_no_bar_back(now_s, later_s):
    first = Attempts().after_failure(now_s)
    assert first.after_failure(max(now_s, later_s)).retry_s >= first.retry_s
