import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.enforcing import ClockRange, Decision, Lock, Reset, Setting
from dynawatt.agent.journal import Journal
from dynawatt.agent.limiting import CALLS_PER_S
from dynawatt.agent.view import ClockCommand
from dynawatt.ports import GpuNotSupportedError, PodKey

from .memory_node import Killed, Node

POD = PodKey("prod", "a")
RANGE, OTHER = ClockRange(345, 1200), ClockRange(345, 900)
LOCK_FAILED, RESET_FAILED = (ClockCommand.LOCK, "Other"), (ClockCommand.RESET, "Other")


def actuator_of(node: Node) -> Actuator:
    """Of an agent that starts now, on what is left of the one before."""
    node.close()
    node.journal = Journal(node.directory)
    return Actuator(node.gpus, journal=node.journal, clock_s=lambda: node.now_s)


@pytest.fixture
def actuator(node: Node) -> Actuator:
    """Nothing is locked and the journal says so."""
    actuator = actuator_of(node)
    for gpu in node.gpus:
        gpu.calls.clear()
    return actuator


def lock_of(*indexes: int, clocks: ClockRange = RANGE) -> Decision:
    return Decision(locks=(Lock(POD, tuple(f"GPU-{index}" for index in indexes), clocks),))


def commanded(actuator: Actuator) -> list[Any]:
    return [actuator.commanded(uuid) for uuid in actuator.devices]


# What a start may believe


def lose(journal: Path) -> None:
    journal.unlink()


def damage(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[:-20])


@pytest.mark.parametrize("spoil", [lose, damage])
def test_without_a_whole_journal_every_gpu_may_be_locked(
    node: Node, actuator: Actuator, spoil: Callable[[Path], None]
) -> None:
    actuator.carry_out(lock_of(0))
    spoil(node.directory / "clocks.json")
    started = actuator_of(node)
    assert commanded(started) == [Setting.UNKNOWN] * 4
    started.reset_all("start")
    assert [gpu.calls[-1] for gpu in node.gpus] == ["reset"] * 4
    assert commanded(started) == [Setting.DEFAULT] * 4
    assert commanded(actuator_of(node)) == [Setting.DEFAULT] * 4


def test_a_whole_journal_concerns_only_the_gpus_that_it_names(node: Node, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(1))
    node.gpus[2].locked = (345, 345)  # by an administrator
    started = actuator_of(node)
    assert commanded(started) == [Setting.DEFAULT, Setting.UNKNOWN, Setting.DEFAULT, Setting.DEFAULT]
    started.reset_all("start")
    assert node.locked() == [None, None, (345, 345), None]
    assert [gpu.calls for gpu in node.gpus] == [[], ["lock 345-1200", "reset"], [], []]


def test_what_is_not_on_this_node_stays_named(node: Node, actuator: Actuator, caplog: pytest.LogCaptureFixture) -> None:
    actuator.carry_out(lock_of(0, 3))
    gone = node.gpus.pop()
    started = actuator_of(node)
    assert "gpu=GPU-3 may be locked and is not on this node" in caplog.text
    started.reset_all("start")
    started.carry_out(lock_of(1))
    assert node.journalled() == {"GPU-1", "GPU-3"}
    node.gpus.append(gone)
    assert actuator_of(node).commanded("GPU-3") is Setting.UNKNOWN


# The journal goes ahead


def test_a_gpu_is_named_before_its_first_lock_and_struck_out_after_its_reset(node: Node, actuator: Actuator) -> None:
    assert node.journalled() == set()
    actuator.carry_out(lock_of(0, 1))  # a lock that is not journalled fails the test
    assert node.journalled() == {"GPU-0", "GPU-1"}
    actuator.carry_out(Decision(resets=(Reset("GPU-0", "released"),)))
    assert node.journalled() == {"GPU-1"}
    actuator.reset_all("end")
    assert node.journalled() == set()


def test_a_gpu_whose_reset_fails_stays_named(node: Node, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0, 1))
    node.gpus[0].broken.add("reset")
    actuator.reset_all("end")
    assert node.journalled() == {"GPU-0"}
    node.gpus[0].broken.clear()
    actuator.reset_all("end")
    assert node.journalled() == set()


@pytest.mark.parametrize("moments", range(12))
def test_killed_at_any_moment_of_a_group_what_is_locked_is_named(node: Node, actuator: Actuator, moments: int) -> None:
    actuator.carry_out(lock_of(3))
    node.moments_left = moments
    try:
        actuator.carry_out(lock_of(0, 1, 2))
        actuator.carry_out(Decision(resets=(Reset("GPU-3", "released"),)))
    except Killed:
        pass
    assert {gpu.uuid for gpu in node.gpus if gpu.locked} <= node.journalled()
    node.moments_left = None
    actuator_of(node).reset_all("start")
    assert node.locked() == [None] * 4


def test_a_full_disk_forbids_new_locks_but_leaves_those_that_are_named(node: Node, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0))
    node.disk_full = True
    actuator.carry_out(lock_of(1))
    assert node.locked() == [(345, 1200), None, None, None]
    assert node.gpus[1].calls == []
    assert "the journal cannot be written: " in actuator.states()["GPU-1"].refused
    assert "No space left on device" in actuator.journal_problem
    actuator.carry_out(lock_of(0, clocks=OTHER))
    assert node.locked() == [(345, 900), None, None, None]
    assert "No space left on device" in actuator.journal_problem
    assert not actuator.states()["GPU-0"].refused

    node.disk_full = False
    actuator.carry_out(Decision())
    assert actuator.journal_problem == ""
    node.now_s += 30.0
    assert not actuator.states()["GPU-1"].refused
    actuator.carry_out(lock_of(1))
    assert node.locked()[1] == (345, 1200)


def test_a_group_that_cannot_be_journalled_is_let_go_of_as_a_whole(node: Node, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0))
    node.disk_full = True
    actuator.carry_out(lock_of(0, 1))
    assert node.locked() == [None] * 4


def test_a_reset_on_a_full_disk_is_made_all_the_same(node: Node, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0))
    node.disk_full = True
    actuator.reset_all("end")
    assert node.locked() == [None] * 4
    assert node.journalled() == {"GPU-0"}  # too many, which is safe


# Groups


def test_only_members_that_differ_are_told(node: Node, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0))
    actuator.carry_out(lock_of(0, 1))
    assert [gpu.calls for gpu in node.gpus[:2]] == [["lock 345-1200"], ["lock 345-1200"]]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_one_refusal_resets_the_group(node: Node, actuator: Actuator, failing: int) -> None:
    node.gpus[failing].broken.add("lock")
    actuator.carry_out(lock_of(0, 1, 2))
    assert node.locked() == [None] * 4
    assert actuator.failures() == {LOCK_FAILED: 1}
    states = actuator.states()
    assert {state.commanded for state in states.values()} == {Setting.DEFAULT}
    assert "refused 345-1200MHz" in states[f"GPU-{failing}"].refused
    assert [gpu.calls for gpu in node.gpus[failing + 1 :]] == [[]] * (3 - failing)  # those were never told anything
    node.now_s += 30.0
    assert not actuator.states()[f"GPU-{failing}"].refused


def test_error_that_no_driver_should_throw_is_a_refusal_too(
    node: Node, actuator: Actuator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node.gpus[1], "lock_clocks", lambda _: None)  # a TypeError
    actuator.carry_out(lock_of(0, 1))
    assert node.locked() == [None] * 4
    assert actuator.failures() == {LOCK_FAILED: 1}


def test_a_lock_that_hangs_and_takes_effect_late_is_undone(node: Node, actuator: Actuator) -> None:
    node.gpus[1].hangs = True
    actuator.carry_out(lock_of(0, 1))
    assert commanded(actuator)[:2] == [Setting.DEFAULT, Setting.UNKNOWN]
    assert actuator.failures() == {(ClockCommand.LOCK, "Timeout"): 1, (ClockCommand.RESET, "Timeout"): 1}
    node.gpus[1].wake()
    assert node.locked() == [None, (345, 1200), None, None]
    actuator.carry_out(Decision(resets=(Reset("GPU-1", "its clocks are unknown"),)))
    assert node.locked() == [None] * 4
    assert node.journalled() == set()


@pytest.mark.parametrize("command", ["lock", "reset"])
def test_a_hung_gpu_does_not_keep_the_others_from_their_commands(node: Node, actuator: Actuator, command: str) -> None:
    others = Lock(PodKey("prod", "b"), ("GPU-2", "GPU-3"), OTHER)
    if command == "reset":
        actuator.carry_out(Decision(locks=(*lock_of(0, 1).locks, others)))
    node.gpus[0].hangs = True
    if command == "lock":
        actuator.carry_out(Decision(locks=(*lock_of(0, 1).locks, others)))
        assert node.locked() == [None, None, (345, 900), (345, 900)]
    else:
        actuator.reset_all("stop")
        assert node.locked() == [(345, 1200), None, None, None]


def test_a_gpu_of_unknown_clocks_is_reset_before_it_is_locked(node: Node, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0))
    actuator.forget("GPU-0")
    before = actuator.calls
    actuator.carry_out(lock_of(0))
    assert node.gpus[0].calls == ["lock 345-1200", "reset", "lock 345-1200"]
    assert actuator.calls == before + 2


def test_forgetting_what_a_gpu_was_never_told_changes_nothing(actuator: Actuator) -> None:
    actuator.forget("GPU-0")
    assert actuator.commanded("GPU-0") is Setting.DEFAULT


def test_failed_reset_leaves_the_gpu_unknown_and_the_others_reset(node: Node, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0, 1, 2, 3))
    node.gpus[1].broken.add("reset")
    actuator.reset_all("end")
    assert commanded(actuator) == [Setting.DEFAULT, Setting.UNKNOWN, Setting.DEFAULT, Setting.DEFAULT]
    assert actuator.failures() == {RESET_FAILED: 1}
    node.gpus[1].broken.clear()
    actuator.carry_out(Decision(resets=(Reset("GPU-1", "again"),)))
    assert node.locked() == [None] * 4


def test_where_clocks_cannot_be_set_there_is_nothing_to_reset(
    node: Node, actuator: Actuator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise GpuNotSupportedError("GPU-0: not supported")

    monkeypatch.setattr(node.gpus[0], "reset_clocks", refuse)
    actuator.suspect("GPU-0")
    actuator.reset_all("start")
    assert actuator.commanded("GPU-0") is Setting.DEFAULT
    assert actuator.failures() == {}


# The bounds on calls


def test_a_group_that_is_left_to_the_next_cycle_is_not_left_half_set(node: Node, actuator: Actuator) -> None:
    slow, group = Lock(POD, ("GPU-0",), RANGE), Lock(PodKey("prod", "b"), ("GPU-1", "GPU-2"), RANGE)
    actuator.carry_out(lock_of(1))
    node.gpus[0].takes_s = 1.5
    actuator.carry_out(Decision(locks=(slow, group)))
    assert node.locked() == [(345, 1200), None, None, None]
    actuator.carry_out(Decision(locks=(group,)))
    assert node.locked() == [(345, 1200)] * 3 + [None]


def test_a_gpu_is_not_called_more_often_than_its_limit_and_ends_at_default(node: Node, actuator: Actuator) -> None:
    for round_ in range(100):
        actuator.carry_out(lock_of(0, 1, clocks=(RANGE, OTHER)[round_ % 2]))
    assert len(node.gpus[0].calls) <= 6
    assert node.locked()[0] == node.locked()[1]
    actuator.reset_all("stop")
    assert node.locked() == [None] * 4  # the limit leaves room for it
    assert actuator.calls == sum(len(gpu.calls) for gpu in node.gpus)


def test_a_group_that_may_not_be_called_yet_is_not_left_half_set(node: Node, actuator: Actuator) -> None:
    for clocks in (RANGE, OTHER, RANGE, OTHER):
        actuator.carry_out(lock_of(1, clocks=clocks))
    assert node.locked() == [None, (345, 900), None, None]
    actuator.carry_out(lock_of(0, 1))
    assert node.locked() == [None] * 4
    node.now_s += 1.0
    actuator.carry_out(lock_of(0, 1))
    assert node.locked() == [(345, 1200), (345, 1200), None, None]


def test_a_reset_that_may_not_be_made_yet_is_made_later(node: Node, actuator: Actuator) -> None:
    node.gpus[0].broken.add("reset")
    actuator.carry_out(lock_of(0))
    for _ in range(20):
        actuator.reset_all("again and again")
    node.gpus[0].broken.clear()
    actuator.reset_all("too soon")
    assert actuator.commanded("GPU-0") is Setting.UNKNOWN
    assert node.journalled() == {"GPU-0"}
    node.now_s += 1.0 / CALLS_PER_S
    actuator.reset_all("in time")
    assert node.locked() == [None] * 4


# What is told


def test_supported_clocks_are_asked_for_until_known(node: Node, actuator: Actuator) -> None:
    node.gpus[0].broken.add("supported")
    assert actuator.supported_mhz("GPU-0") is None
    assert actuator.failures() == {(ClockCommand.SUPPORTED_CLOCKS, "Other"): 1}
    node.gpus[0].broken.clear()
    assert actuator.supported_mhz("GPU-0") == node.gpus[0].supported
    node.gpus[0].broken.add("supported")
    assert actuator.supported_mhz("GPU-0") == node.gpus[0].supported


def test_one_line_per_change(actuator: Actuator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    caplog.set_level(logging.INFO)
    actuator.carry_out(lock_of(0))
    actuator.carry_out(lock_of(0))
    actuator.carry_out(lock_of(0, clocks=OTHER))  # governors do this all the time
    actuator.reset_all("the agent stops")
    actuator.reset_all("the agent stops")
    assert caplog.messages == [
        "clock gpu=GPU-0 pod=prod/a from=default to=345-1200MHz reason=claim",
        "clock gpu=GPU-0 from=345-900MHz to=default reason='the agent stops'",
    ]


def test_the_same_failure_is_told_once(node: Node, actuator: Actuator, caplog: pytest.LogCaptureFixture) -> None:
    node.gpus[0].broken.add("reset")
    actuator.suspect("GPU-0")
    for _ in range(3):
        actuator.reset_all("again")
    assert [message for message in caplog.messages if message.startswith("clock")] == [
        "clock gpu=GPU-0 command=reset error='GPU-0: reset fails'"
    ]
    assert actuator.failures() == {RESET_FAILED: 3}
