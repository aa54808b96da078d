import threading
from collections.abc import Callable
from typing import Any

import pytest

from dynawatt.agent.enforcing import Setting
from dynawatt.agent.view import ClockCommand
from dynawatt.api.conditions import Reason
from dynawatt.ports import PodKey

from .memory_node import Node

A = PodKey("prod", "a")


def test_claim_is_applied_within_one_cycle_and_followed(node: Node) -> None:
    pod = node.place("a", 0, 1, claim=(345, 1200))
    node.cycle()
    assert node.locked() == [(345, 1200), (345, 1200), None, None]
    node.place("a", 0, 1, claim=(345, 907))
    node.cycle()
    assert node.locked() == [(345, 900), (345, 900), None, None]
    node.remove(pod)
    node.cycle()
    assert node.locked() == [None] * 4


def test_the_first_start_on_a_node_resets_every_gpu_once(new_node: Callable[[], Node]) -> None:
    node = new_node()
    for gpu in node.gpus:
        gpu.locked = (345, 345)
    node.cycle()
    node.cycle()
    assert node.locked() == [None] * 4
    assert [gpu.calls for gpu in node.gpus] == [["reset"]] * 4


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"version": 1, "gpus": [], "sha256": "0"}'])
def test_a_start_after_a_lost_or_damaged_journal_resets_every_gpu(node: Node, content: bytes | None) -> None:
    journal = node.directory / "clocks.json"
    journal.unlink()
    if content is not None:
        journal.write_bytes(content)
    for gpu in node.gpus:
        gpu.locked = (345, 345)
    node.restart()
    node.cycle()
    assert node.locked() == [None] * 4


def test_a_start_with_a_whole_journal_leaves_what_others_locked(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.gpus[2].locked = node.gpus[3].locked = (345, 345)  # by an administrator
    node.restart()
    node.cycle()
    assert node.locked() == [None, None, (345, 345), (345, 345)]
    node.cycle()
    assert node.locked() == [(345, 1200), None, (345, 345), (345, 345)]
    node.place("b", 2, claim=(345, 900))
    node.cycle()
    assert node.locked() == [(345, 1200), None, (345, 900), (345, 345)]
    node.lease_known = False
    node.cycle(after_s=40.0, renew=False)
    assert node.locked() == [None, None, None, (345, 345)]


def test_old_lease_at_start_gives_no_permission(new_node: Callable[[], Node]) -> None:
    node = new_node()
    node.place("a", 0, claim=(345, 1200))
    node.renew()
    for _ in range(50):
        node.cycle(renew=False)
    assert node.locked() == [None] * 4


def test_lease_that_is_not_renewed_ends_all_claims_and_a_new_one_restores_them(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.cycle(after_s=29.9, renew=False)
    assert node.locked()[0] == (345, 1200)
    view = node.cycle(after_s=0.1, renew=False)
    assert node.locked() == [None] * 4
    assert view.refusals[A].reason is Reason.LEASE_STALE
    node.cycle()
    assert node.locked()[0] == (345, 1200)


def test_unreachable_api_is_the_same_clock(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.pods_, node.lease_known = None, False
    node.cycle(after_s=20.0, renew=False)
    assert node.locked()[0] == (345, 1200)
    node.cycle(after_s=10.0, renew=False)
    assert node.locked() == [None] * 4


def test_pods_that_nobody_confirms_any_more_lose_their_claims(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.pods_heard_s = node.now_s
    node.cycle(after_s=179.0)
    assert node.locked()[0] == (345, 1200)
    node.cycle(after_s=2.0)
    assert node.locked() == [None] * 4


def test_unknown_allocations_hold_but_not_beyond_the_lease(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.allocations = None
    view = node.cycle(after_s=5.0)
    assert node.locked()[0] == (345, 1200)
    assert view.allocations_problem == "kubelet is away"
    assert view.gpus[0].pods == (A,)
    node.cycle(after_s=30.0, renew=False)
    assert node.locked() == [None] * 4


def test_a_kubelet_that_stays_away_ends_all_claims_until_it_is_back(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    known, node.allocations = node.allocations, None
    node.cycle(after_s=9.9)
    assert node.locked()[0] == (345, 1200)
    node.cycle(after_s=0.1)
    assert node.locked() == [None] * 4
    node.allocations = known
    view = node.cycle()
    assert node.locked()[0] == (345, 1200)
    assert view.allocations_problem == ""


@pytest.mark.parametrize("bug", ["held_devices", "pods", "read"])
def test_broken_cycle_holds_until_the_lease_ends(node: Node, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("bug")

    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    monkeypatch.setattr(node, bug, broken)
    view = node.cycle(after_s=5.0, renew=False)
    assert view.cycle_failures == 1
    assert node.locked()[0] == (345, 1200)
    assert "ended 5 s ago" in node.agent.unhealthy()
    view = node.cycle(after_s=25.0, renew=False)
    assert node.locked() == [None] * 4
    assert view.cycle_failures == 2
    monkeypatch.undo()
    view = node.cycle()
    assert (view.cycle_failures, node.agent.unhealthy()) == (2, "")
    assert node.locked()[0] == (345, 1200)


def test_a_first_cycle_that_breaks_shows_nothing(new_node: Callable[[], Node], monkeypatch: pytest.MonkeyPatch) -> None:
    node = new_node()
    monkeypatch.setattr(node, "pods", lambda: 1 / 0)
    node.renew()
    node.agent.cycle()
    assert node.views == []
    monkeypatch.undo()
    assert node.cycle().cycle_failures == 1


def test_when_not_even_lease_and_switch_can_be_looked_at_the_agent_ends_and_resets(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    monkeypatch.setattr(node, "lease", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        node.agent.run(threading.Event())
    assert node.locked() == [None] * 4


def test_gpu_that_refuses_is_tried_again_later_and_its_group_waits(node: Node) -> None:
    node.place("a", 0, 1, claim=(345, 1200))
    node.gpus[1].broken.add("lock")
    view = node.cycle()
    assert node.locked() == [None] * 4
    assert view.command_failures == {(ClockCommand.LOCK, "Other"): 1}
    view = node.cycle()
    assert view.command_failures == {(ClockCommand.LOCK, "Other"): 1}
    assert view.refusals[A].reason is Reason.GPU_ERROR
    node.gpus[1].broken.clear()
    node.cycle(after_s=30.0)
    assert node.locked()[:2] == [(345, 1200)] * 2


def test_a_successor_of_the_same_name_does_not_inherit_the_claim(node: Node) -> None:
    node.place("a", 0, 1, claim=(345, 1200), uid="first")
    node.cycle()
    assert node.allocations is not None
    node.allocations[A] = ["GPU-2", "GPU-3"]  # as the kubelet tells it before the API does
    view = node.cycle()
    assert node.locked() == [None] * 4
    assert view.refusals[A].reason is Reason.AMBIGUOUS_POD
    node.place("a", 2, 3, uid="second")
    assert node.cycle().refusals == {}
    assert node.locked() == [None] * 4
    node.place("a", 2, 3, claim=(345, 900), uid="second")
    node.cycle()
    assert node.locked() == [None, None, (345, 900), (345, 900)]


def test_a_gpu_that_passes_from_one_claimed_pod_to_another_follows_the_other(node: Node) -> None:
    pod = node.place("a", 0, 1, claim=(345, 1200))
    node.cycle()
    node.remove(pod)
    node.place("b", 1, 2, claim=(345, 900))
    node.cycle()
    assert node.locked() == [None, (345, 900), (345, 900), None]


def test_driver_restart_locks_anew(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.gpus[0].locked = None
    node.gpus[0].offset_j = -100.0 * node.now_s
    node.cycle()
    node.cycle()
    assert node.locked()[0] == (345, 1200)


def test_readings_that_fail_are_absent_and_energy_catches_up(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    before_j = node.cycle().energy_j["GPU-0", A]
    node.gpus[0].broken.add("read")
    view = node.cycle()
    assert view.gpus[0].reading is None
    assert view.gpus[1].reading is not None
    node.gpus[0].broken.clear()
    view = node.cycle()
    assert view.energy_j["GPU-0", A] - before_j == pytest.approx(200.0)
    assert view.gpus[0].reading is not None
    assert view.gpus[0].reading.clock_mhz == 1200


def test_three_missed_cycles_are_unhealthy(node: Node) -> None:
    node.now_s += 3.0
    assert not node.agent.unhealthy()
    node.now_s += 0.1
    assert "ended 3 s ago" in node.agent.unhealthy()


def test_run_resets_at_the_end_and_says_so(node: Node) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    stop = threading.Event()
    stop.set()
    node.agent.run(stop)
    assert node.locked() == [None] * 4
    assert node.views[-1].stopped
    assert node.views[-1].gpus[0].commanded is Setting.DEFAULT


def test_run_resets_first_what_the_journal_names(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.restart()
    stop, seen = threading.Event(), []

    def only_cycle() -> None:
        seen.append(node.locked())
        stop.set()

    monkeypatch.setattr(node.agent, "cycle", only_cycle)
    node.agent.run(stop)
    assert seen == [[None] * 4]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_run_resets_even_when_the_loop_is_torn_down(
    node: Node, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    node.place("a", 0, 1, claim=(345, 1200))
    cycle, seen = node.agent.cycle, []

    def cycle_and_die() -> None:
        cycle()
        seen.append(node.locked())
        raise error

    monkeypatch.setattr(node.agent, "cycle", cycle_and_die)
    with pytest.raises(error):
        node.agent.run(threading.Event())
    assert seen == [[(345, 1200), (345, 1200), None, None]]
    assert node.locked() == [None] * 4
    assert node.journalled() == set()


def test_torn_down_in_the_middle_of_a_group_all_of_it_is_reset(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: int) -> None:
        node.gpus[1].locked = (345, 1200)
        assert node.gpus[0].locked == (345, 1200)
        raise KeyboardInterrupt

    node.place("a", 0, 1, claim=(345, 1200))
    monkeypatch.setattr(node.gpus[1], "lock_clocks", interrupt)
    with pytest.raises(KeyboardInterrupt):
        node.agent.run(threading.Event())
    assert node.locked() == [None] * 4
    assert node.journalled() == set()
