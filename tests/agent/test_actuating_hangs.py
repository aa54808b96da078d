"""A driver that hangs on one GPU costs the others nothing that matters."""

import threading
from typing import Any

from dynawatt.agent.actuating import Actuator
from dynawatt.agent.enforcing import ClockRange, Decision, Lock
from dynawatt.ports import PodKey

from .memory_node import Node

RANGE = ClockRange(345, 1200)
LOCKS = Decision(locks=tuple(Lock(PodKey("prod", f"pod-{index}"), (f"GPU-{index}",), RANGE) for index in range(4)))


def actuator_of(node: Node) -> Actuator:
    return Actuator(node.gpus, journal=node.journal, clock_s=lambda: node.now_s)


def test_all_gpus_are_reset_at_the_same_time(node: Node, monkeypatch: Any) -> None:
    actuator = actuator_of(node)
    actuator.carry_out(LOCKS)
    together = threading.Barrier(len(node.gpus))
    for gpu in node.gpus:
        monkeypatch.setattr(gpu, "reset_clocks", lambda: together.wait(timeout=20))
    actuator.reset_all("end")
    assert not together.broken
    assert node.journalled() == set()


def test_a_slow_lock_puts_the_others_off_to_the_next_cycle_where_they_come_first(node: Node) -> None:
    actuator = actuator_of(node)
    node.gpus[1].takes_s = 2.0
    actuator.carry_out(LOCKS)
    assert node.locked() == [(345, 1200), (345, 1200), None, None]
    node.gpus[2].takes_s = 2.0
    again = ClockRange(345, 900)
    actuator.carry_out(Decision(locks=tuple(Lock(lock.pod, lock.uuids, again) for lock in LOCKS.locks)))
    assert node.locked() == [(345, 1200), (345, 1200), (345, 900), None]
    actuator.carry_out(Decision(locks=tuple(Lock(lock.pod, lock.uuids, again) for lock in LOCKS.locks)))
    assert node.locked()[3] == (345, 900)
