from collections.abc import Callable

import pytest

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.enforcing import Setting
from dynawatt.agent.journal import Journal
from dynawatt.agent.resetting import reset_all

from .memory_node import Node


@pytest.fixture
def actuator(node: Node) -> Actuator:
    """As the command finds them: every GPU locked, of which the journal names one."""
    node.place("a", 1, claim=(345, 1200))
    node.cycle()
    node.close()
    for gpu in node.gpus:
        gpu.locked = (345, 345)
        gpu.calls.clear()
    node.journal = Journal(node.directory)
    assert node.journal.found == {"GPU-1"}
    return Actuator(node.gpus, journal=node.journal, clock_s=lambda: node.now_s)


@pytest.fixture
def sleep(node: Node) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        node.now_s += seconds

    return sleep


def test_every_gpu_is_reset_whatever_the_journal_says(
    node: Node, actuator: Actuator, sleep: Callable[[float], None]
) -> None:
    began_s = node.now_s
    assert reset_all(actuator, sleep=sleep) == []
    assert node.locked() == [None] * 4
    assert [gpu.calls for gpu in node.gpus] == [["reset"]] * 4
    assert node.journalled() == set()
    assert node.now_s == began_s


def test_what_fails_three_times_is_told_and_stays_in_the_journal(
    node: Node, actuator: Actuator, sleep: Callable[[float], None]
) -> None:
    node.gpus[1].broken.add("reset")
    node.gpus[2].hangs = True
    assert reset_all(actuator, sleep=sleep) == ["GPU-1", "GPU-2"]
    assert [len(gpu.calls) for gpu in node.gpus] == [1, 3, 3, 1]
    assert node.journalled() == {"GPU-1", "GPU-2"}
    assert actuator.commanded("GPU-1") is Setting.UNKNOWN


def test_a_gpu_that_answers_at_the_third_attempt_is_reset(node: Node, actuator: Actuator) -> None:
    node.gpus[0].broken.add("reset")
    pauses_s: list[float] = []

    def sleep(seconds: float) -> None:
        node.now_s += seconds
        pauses_s.append(seconds)
        if len(pauses_s) == 2:
            node.gpus[0].broken.clear()

    assert reset_all(actuator, sleep=sleep) == []
    assert pauses_s == [1.0, 1.0]
    assert node.locked() == [None] * 4
