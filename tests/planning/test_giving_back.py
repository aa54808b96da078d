"""Giving back: what serves on the way, and how it ends."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dynawatt.planning.giving_back import Original, give_back_step, serving
from dynawatt.planning.step import StepKind

from .pods import KINDS, OVERDUE_TICKS, STARTUP_TICKS, Pods

END = (StepKind.DONE, StepKind.GAVE_UP)


class GivingBack:
    """Gives back, a step a tick, and takes note of the least that served."""

    def __init__(self, pods, deployment, replicas, **terms):
        self.pods, self.original = pods, Original(deployment, replicas)
        self.terms = {"max_gpus": None} | terms
        self.before = serving(pods.shapes())
        self.began = self.least = (pods.ready(), pods.capacity_rps())
        self.writes = []

    def step(self, **more):
        terms = {"before": self.before} | self.terms | more
        return give_back_step(self.original, self.pods.shapes(), nodes=self.pods.nodes(), **terms)

    def run(self, ticks=200, **more):
        found = self.step(**more)
        for _ in range(ticks):
            found = self.step(**more)
            if found.scale is not None:
                self.writes.append((found.kind.value, *found.scale[:2]))
                self.pods.scale(found.scale)
            if found.kind in END:
                break
            self.pods.tick()
            ready, capacity_rps = self.least
            self.least = min(ready, self.pods.ready()), min(capacity_rps, self.pods.capacity_rps())
        return found


def test_originals_and_siblings_take_turns():
    giving = GivingBack(Pods.serving([0, 0, 8, 8, 8], tp2=[0] * 4 + [1] * 4, tp8=[]), "tp8", 8)
    giving.run(ticks=4 * STARTUP_TICKS)
    assert giving.writes[:4] == [
        ("Start", "tp8", 2),  # a quarter of the originals
        ("Start", "tp8", 3),
        ("Drain", "tp2", 5),  # 3 x 8 + 5 x 1.5 req/s is far more than before, but there were 8 pods
        ("Drain", "tp2", 4),  # the last one in the way of the next original
    ]


def test_many_small_siblings_become_few_large_originals():
    giving = GivingBack(Pods.serving([0, 0, 8, 8], tp2=[0] * 4 + [1] * 4, tp8=[]), "tp8", 4)
    assert giving.run().kind is StepKind.DONE
    assert giving.writes == [
        ("Start", "tp8", 1),
        ("Start", "tp8", 2),
        ("Drain", "tp2", 2),  # four pods, as the original is to have
        ("Start", "tp8", 3),
        ("Drain", "tp2", 1),
        ("Drain", "tp2", 0),  # in the way of the last original; what is left carries more than there ever was
        ("Start", "tp8", 4),
    ]
    assert giving.least == (3, 12.0)


def test_few_large_siblings_become_many_small_originals():
    giving = GivingBack(Pods.serving([0, 0, 8], tp8=[0, 1], tp2=[]), "tp2", 8, needed_rps=16.0)
    assert giving.run().kind is StepKind.DONE
    assert giving.writes == [
        ("Start", "tp2", 2),
        ("Start", "tp2", 4),
        ("Drain", "tp8", 1),
        ("Start", "tp2", 6),
        ("Start", "tp2", 8),
        ("Drain", "tp8", 0),
    ]
    assert giving.least == (2, 12.0)  # as all originals carry


def test_without_room_siblings_wait_for_a_low_load():
    giving = GivingBack(Pods.serving([0, 0, 0], tp8=[0, 1], tp2=[]), "tp2", 8)
    found = giving.run(needed_rps=8.1)
    assert (found.kind, found.reason, giving.writes) == (StepKind.BLOCKED, "NoSpareCapacity", [])
    assert giving.run(needed_rps=6.0).kind is StepKind.DONE
    assert giving.least[1] == 6.0


def test_what_takes_too_long_leaves_the_siblings_serving():
    giving = GivingBack(Pods.serving([4], tp2=[0] * 2, tp8=[]), "tp8", 2)
    assert giving.run().kind is StepKind.BLOCKED
    found = giving.run(is_timed_out=True)
    assert (found.kind, found.reason) == (StepKind.GAVE_UP, "GiveBackIncomplete")
    assert "0 of 2 replicas of tp8 are Ready: 2 of tp2 go on serving" in found.message
    assert giving.pods.desired["tp8"] == 2, "they start when there is room"
    assert (giving.step(is_timed_out=True).kind, giving.step(is_timed_out=True).scale) == (StepKind.GAVE_UP, None)


def test_what_does_not_serve_is_not_left_behind():
    pods = Pods.serving([8], tp2=[0] * 2, tp8=[])
    pods.desired["tp2"] = 3
    found = GivingBack(pods, "tp8", 2).step(is_timed_out=True)
    assert (found.kind, found.scale[:2]) == (StepKind.DROP, ("tp2", 2))


@pytest.mark.parametrize(("found", "kind"), [(2, "Start"), (7, "Drain")])
def test_a_deployment_without_siblings_is_given_back_at_once(found, kind):
    giving = GivingBack(Pods.serving([0], tp2=[0] * found), "tp2", 5)
    assert giving.run().kind is StepKind.DONE
    assert giving.writes == [(kind, "tp2", 5)]


def test_an_original_without_replicas_gets_none():
    giving = GivingBack(Pods.serving([0], tp2=[0] * 3, tp4=[]), "tp4", 0)
    assert giving.run().kind is StepKind.DONE
    assert giving.pods.counts() == {}


def test_siblings_that_start_or_are_stuck_go_at_once():
    pods = Pods.serving([8, 8], tp2=[1] * 2, tp8=[], tp4=[])
    pods.stuck.add("tp2")
    pods.desired |= {"tp2": 4, "tp4": 1}
    pods.reconcile()
    giving = GivingBack(pods, "tp8", 1)
    assert giving.run().kind is StepKind.DONE
    assert giving.writes == [("Drop", "tp4", 0), ("Drop", "tp2", 2), ("Start", "tp8", 1), ("Drain", "tp2", 0)]


def test_originals_that_are_stuck_do_not_hold_up_the_others():
    pods = Pods.serving([8, 8, 8], tp2=[0] * 4, tp8=[])
    giving = GivingBack(pods, "tp8", 2)
    giving.run(ticks=1)
    pods.reconcile()
    stuck = pods.pods[-1]
    stuck.ready_in = float("inf")
    giving.run(ticks=OVERDUE_TICKS + STARTUP_TICKS + 5)
    assert pods.desired["tp8"] == 2
    assert pods.desired["tp2"] == 1, "with one original that makes as many as there are to be"
    assert giving.step().kind is StepKind.WAIT
    stuck.ready_in = 1
    assert giving.run().kind is StepKind.DONE


def test_whoever_does_not_remember_keeps_more():
    pods = Pods.serving([0, 0, 8], tp2=[0] * 4 + [1] * 4, tp8=[])
    assert GivingBack(pods, "tp8", 3).run(ticks=5, before=None).kind is StepKind.BLOCKED
    assert pods.counts() == {"tp2": 8, "tp8": 1}


@settings(deadline=None)
@given(
    before=st.dictionaries(st.sampled_from(["tp1", "tp2", "tp4"]), st.integers(1, 5), min_size=1, max_size=2),
    name=st.sampled_from(["tp2", "tp8"]),
    replicas=st.integers(1, 9),
    spare=st.integers(0, 3) | st.just(30),
    needed_part=st.none() | st.floats(0, 1.2),
    awake=st.lists(st.booleans(), max_size=60),
    forgets_at=st.none() | st.integers(0, 60),
)
def test_what_is_promised_is_kept_however_it_ends(before, name, replicas, spare, needed_part, awake, forgets_at):
    pods = Pods([8] * 5, dict.fromkeys(KINDS, 0) | before)
    assume(before.get(name, 0) <= replicas)
    for _ in range(STARTUP_TICKS + 1):
        pods.tick()
    assume(all(pod.is_ready for pod in pods.pods))
    pods.free = [0] * 5 + [8] * spare
    giving = GivingBack(pods, name, replicas)
    promised_rps = min(giving.began[1], replicas * KINDS[name][1])
    if needed_part is not None:
        giving.terms["needed_rps"] = needed_part * promised_rps
    for tick, acts in enumerate(awake):
        if tick == forgets_at:
            giving.before = None
        giving.run(ticks=acts)
        pods.tick()
    found = giving.run()
    if found.kind is not StepKind.DONE:
        assert spare < 30
        found = giving.run(is_timed_out=True)
        assert found.kind is StepKind.GAVE_UP
        assert pods.ready()
    assert pods.desired[name] == replicas
    least, least_rps = giving.least
    assert least_rps >= min(promised_rps, giving.terms.get("needed_rps", promised_rps)) - 1e-6
    if spare == 30:
        assert least >= min(giving.began[0], replicas)
        assert least_rps >= promised_rps - 1e-6
        assert pods.counts() == {name: replicas}
