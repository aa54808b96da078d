from typing import Any

import pytest

from dynawatt.agent.standing import Judge
from dynawatt.api.conditions import Reason
from dynawatt.ports import PodKey

from .memory_node import Node

A = PodKey("prod", "a")
ON = {"data": {"enabled": "true"}}
OFF = {"data": {"enabled": "false"}}


def lease(renewed: object) -> dict[str, Any]:
    return {"spec": {"holderIdentity": "operator-1", "leaseDurationSeconds": 30, "renewTime": renewed}}


@pytest.fixture
def governed(node: Node) -> Node:
    """A node with a pod whose two GPUs follow its claim."""
    node.place("a", 0, 1, claim=(345, 1200))
    node.cycle()
    assert node.locked() == [(345, 1200), (345, 1200), None, None]
    return node


# The switch


@pytest.mark.parametrize("value", ["false", "False", "off", "no", "flase", "", "0"])
def test_whatever_is_not_true_switches_off_in_the_same_cycle_and_back(governed: Node, value: str) -> None:
    governed.switch_ = {"data": {"enabled": value}}
    view = governed.cycle()
    assert governed.locked() == [None] * 4
    assert view.switched_off == f"ConfigMap dynawatt-switch has enabled: {value!r}"
    assert view.refusals[A].reason is Reason.CLOCKS_SWITCHED_OFF
    assert (view.claims, view.governed, view.gpus[0].claim) == (1, {}, None)
    governed.run(40)
    assert governed.locked() == [None] * 4
    governed.switch_ = ON
    view = governed.cycle()
    assert governed.locked() == [(345, 1200), (345, 1200), None, None]
    assert (view.switched_off, view.refusals) == ("", {})


@pytest.mark.parametrize(
    "switch", [None, {}, {"data": None}, {"data": {"other": "false"}}, ON, {"data": {"enabled": " True "}}]
)
def test_it_is_on_unless_somebody_wrote_otherwise(governed: Node, switch: dict[str, Any] | None) -> None:
    governed.switch_ = OFF
    governed.cycle()
    governed.switch_ = switch
    assert governed.cycle().switched_off == ""
    assert governed.locked()[0] == (345, 1200)


def test_nothing_is_locked_before_it_is_known_whether_it_is_off(governed: Node) -> None:
    governed.switch_known = False
    governed.restart()
    view = governed.run(40)
    assert governed.locked() == [None] * 4
    assert "not known yet" in view.switched_off
    governed.switch_known = True
    governed.cycle()
    assert governed.locked()[0] == (345, 1200)


def test_switched_off_the_lease_goes_on_being_watched(governed: Node) -> None:
    governed.switch_ = OFF
    assert governed.run(5).lease.fresh
    view = governed.cycle(after_s=31.0, renew=False)
    assert not view.lease.fresh
    assert view.refusals[A].reason is Reason.CLOCKS_SWITCHED_OFF
    governed.switch_ = None
    assert governed.cycle(renew=False).refusals[A].reason is Reason.LEASE_STALE


# Clocks that jump

TIMES = ["1970-01-01T00:00:00Z", "2099-12-31T23:59:59.999999Z", "9999999", "yesterday", "", None, 0]


@pytest.mark.parametrize("renewed", TIMES)
def test_what_time_the_operator_says_it_is_changes_nothing_but_that_it_renewed(governed: Node, renewed: object) -> None:
    governed.lease_ = lease(renewed)
    view = governed.cycle(after_s=29.0, renew=False)
    assert (view.lease.fresh, view.lease.age_s) == (True, 0.0)
    assert governed.cycle(after_s=29.9, renew=False).lease.fresh
    assert governed.locked()[0] == (345, 1200)
    assert not governed.cycle(after_s=0.1, renew=False).lease.fresh
    assert governed.locked() == [None] * 4


def test_a_clock_that_jumps_to_and_fro_is_a_renewal_each_time(governed: Node) -> None:
    for renewed in TIMES * 3:
        governed.lease_ = lease(renewed)
        assert governed.cycle(after_s=20.0, renew=False).lease.fresh
    assert governed.locked()[0] == (345, 1200)


@pytest.mark.parametrize("unix_s", [0.0, -1e9, 4e9])
def test_the_wall_clock_of_this_node_decides_nothing(governed: Node, unix_s: float) -> None:
    before = governed.cycle()
    calls = [list(gpu.calls) for gpu in governed.gpus]
    governed.unix_s = unix_s
    view = governed.cycle()
    assert governed.locked()[0] == (345, 1200)
    assert [gpu.calls for gpu in governed.gpus] == calls
    assert view.lease == before.lease
    assert view.energy_j["GPU-0", A] - before.energy_j["GPU-0", A] == 100.0
    assert view.finished_unix_s == unix_s + governed.now_s
    assert governed.agent.unhealthy() == ""
    governed.unix_s = 1.7e9
    assert not governed.cycle(after_s=30.0, renew=False).lease.fresh


# What is told


def test_a_judgement_is_told_once_for_as_long_as_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    judge = Judge()
    for now_s in range(10):
        judge.judge(lease=(True, lease(now_s)), switch=(True, None), now_s=now_s)
    for now_s in range(10, 100):
        judge.judge(lease=(True, lease(9)), switch=(True, None), now_s=now_s)
    for now_s in range(100, 110):
        judge.judge(lease=(True, lease(9)), switch=(True, OFF), now_s=now_s)
    assert [message.partition(" message")[0] for message in caplog.messages] == [
        "claims hold=no reason=LeaseStale",
        "claims hold=yes",
        "claims hold=no reason=LeaseStale",
        "claims hold=no reason=ClocksSwitchedOff",
    ]
