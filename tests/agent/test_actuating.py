import logging
from typing import Any

import pytest

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.enforcing import ClockRange, Decision, Lock, Reset, Setting
from dynawatt.ports import PodKey

POD = PodKey("prod", "a")
RANGE = ClockRange(345, 1200)


@pytest.fixture
def actuator(node: Any) -> Actuator:
    actuator = Actuator(node.gpus, clock_s=lambda: node.now_s)
    actuator.reset_all("start")
    for gpu in node.gpus:
        gpu.calls.clear()
    return actuator


def lock_of(*indexes: int, clocks: ClockRange = RANGE) -> Decision:
    return Decision(locks=(Lock(POD, tuple(f"GPU-{index}" for index in indexes), clocks),))


def test_unknown_until_reset(node: Any) -> None:
    actuator = Actuator(node.gpus, clock_s=lambda: node.now_s)
    assert actuator.commanded("GPU-0") is Setting.UNKNOWN
    actuator.reset_all("start")
    assert actuator.commanded("GPU-0") is Setting.DEFAULT
    assert node.gpus[0].calls[-1] == "reset"


def test_only_members_that_differ_are_told(node: Any, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0))
    actuator.carry_out(lock_of(0, 1))
    assert [gpu.calls for gpu in node.gpus[:2]] == [["lock 345-1200"], ["lock 345-1200"]]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_one_refusal_resets_the_group(node: Any, actuator: Actuator, failing: int) -> None:
    node.gpus[failing].broken.add("lock")
    actuator.carry_out(lock_of(0, 1, 2))
    assert node.locked() == [None] * 4
    assert actuator.failures()["lock"] == 1
    states = actuator.states()
    assert {state.commanded for state in states.values()} == {Setting.DEFAULT}
    assert "refused 345-1200MHz" in states[f"GPU-{failing}"].refused
    node.now_s += 30.0
    assert not actuator.states()[f"GPU-{failing}"].refused


def test_error_that_no_driver_should_throw_is_a_refusal_too(node: Any, actuator: Actuator) -> None:
    node.gpus[1].supported = (345,)  # its own assertion fails now
    actuator.carry_out(lock_of(0, 1))
    assert node.locked() == [None] * 4


def test_failed_reset_leaves_the_gpu_unknown_and_the_others_reset(node: Any, actuator: Actuator) -> None:
    actuator.carry_out(lock_of(0, 1, 2, 3))
    node.gpus[1].broken.add("reset")
    actuator.reset_all("end")
    assert [actuator.commanded(gpu.uuid) for gpu in node.gpus] == [
        Setting.DEFAULT,
        Setting.UNKNOWN,
        Setting.DEFAULT,
        Setting.DEFAULT,
    ]
    assert actuator.failures()["reset"] == 1
    node.gpus[1].broken.clear()
    actuator.carry_out(Decision(resets=(Reset("GPU-1", "again"),)))
    assert node.locked() == [None] * 4


def test_supported_clocks_are_asked_for_until_known(node: Any, actuator: Actuator) -> None:
    node.gpus[0].broken.add("supported")
    assert actuator.supported_mhz("GPU-0") is None
    node.gpus[0].broken.clear()
    assert actuator.supported_mhz("GPU-0") == node.gpus[0].supported
    node.gpus[0].broken.add("supported")
    assert actuator.supported_mhz("GPU-0") == node.gpus[0].supported


def test_one_line_per_change(node: Any, actuator: Actuator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    actuator.carry_out(lock_of(0))
    actuator.carry_out(lock_of(0))
    actuator.reset_all("the agent stops")
    actuator.reset_all("the agent stops")
    assert caplog.messages == [
        "clock gpu=GPU-0 pod=prod/a from=default to=345-1200MHz reason=claim",
        "clock gpu=GPU-0 from=345-1200MHz to=default reason='the agent stops'",
    ]


def test_the_same_failure_is_told_once(node: Any, actuator: Actuator, caplog: pytest.LogCaptureFixture) -> None:
    node.gpus[0].broken.add("reset")
    actuator.forget("GPU-0")
    for _ in range(3):
        actuator.reset_all("again")
    assert caplog.messages == ["clock gpu=GPU-0 command=reset error='GPU-0: reset fails'"]
    assert actuator.failures()["reset"] == 3
