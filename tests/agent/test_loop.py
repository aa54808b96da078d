import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dynawatt.agent.enforcing import Setting
from dynawatt.api.conditions import Reason
from dynawatt.ports import PodKey


def test_claim_is_applied_within_one_cycle_and_followed(node: Any) -> None:
    pod = node.place("a", 0, 1, claim=(345, 1200))
    node.cycle()
    assert node.locked() == [(345, 1200), (345, 1200), None, None]
    node.place("a", 0, 1, claim=(345, 907))
    node.cycle()
    assert node.locked() == [(345, 900), (345, 900), None, None]
    node.remove(pod)
    node.cycle()
    assert node.locked() == [None] * 4


def test_start_resets_every_gpu_once(new_node: Callable[[], Any]) -> None:
    node = new_node()
    for gpu in node.gpus:
        gpu.locked = (345, 345)
    node.cycle()
    node.cycle()
    assert node.locked() == [None] * 4
    assert [gpu.calls for gpu in node.gpus] == [["reset"]] * 4


def test_old_lease_at_start_gives_no_permission(new_node: Callable[[], Any]) -> None:
    node = new_node()
    node.place("a", 0, claim=(345, 1200))
    node.renew()
    for _ in range(50):
        node.cycle(renew=False)
    assert node.locked() == [None] * 4


def test_lease_that_is_not_renewed_ends_all_claims_and_a_new_one_restores_them(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.cycle(after_s=29.9, renew=False)
    assert node.locked()[0] == (345, 1200)
    view = node.cycle(after_s=0.1, renew=False)
    assert node.locked() == [None] * 4
    assert view.refusals[PodKey("prod", "a")].reason is Reason.LEASE_STALE
    node.cycle()
    assert node.locked()[0] == (345, 1200)


def test_unreachable_api_is_the_same_clock(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.pods_, node.lease_known = None, False
    node.cycle(after_s=20.0, renew=False)
    assert node.locked()[0] == (345, 1200)
    node.cycle(after_s=10.0, renew=False)
    assert node.locked() == [None] * 4


def test_pods_that_nobody_confirms_any_more_lose_their_claims(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.pods_heard_s = node.now_s
    node.cycle(after_s=179.0)
    assert node.locked()[0] == (345, 1200)
    node.cycle(after_s=2.0)
    assert node.locked() == [None] * 4


def test_unknown_allocations_hold_but_not_beyond_the_lease(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.allocations = None
    view = node.cycle(after_s=5.0)
    assert node.locked()[0] == (345, 1200)
    assert view.allocations_problem == "kubelet is away"
    assert view.gpus[0].pods == (PodKey("prod", "a"),)
    node.cycle(after_s=30.0, renew=False)
    assert node.locked() == [None] * 4


def test_a_kubelet_that_stays_away_ends_all_claims_until_it_is_back(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    known, node.allocations = node.allocations, None
    node.cycle(after_s=9.9)
    assert node.locked()[0] == (345, 1200)
    node.cycle(after_s=0.1)
    assert node.locked() == [None] * 4
    node.allocations = known
    node.cycle()
    assert node.locked()[0] == (345, 1200)


@pytest.mark.parametrize("bug", ["gpus_by_pod", "pods", "read"])
def test_broken_cycle_holds_until_the_lease_ends(node: Any, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("bug")

    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    monkeypatch.setattr(node, bug, broken)
    view = node.cycle(after_s=5.0, renew=False)
    assert view.cycle_failures == 1
    assert node.locked()[0] == (345, 1200)
    assert "ended 5 s ago" in node.agent.unhealthy()
    node.cycle(after_s=25.0, renew=False)
    assert node.locked() == [None] * 4


def test_gpu_that_refuses_is_tried_again_later_and_its_group_waits(node: Any) -> None:
    node.place("a", 0, 1, claim=(345, 1200))
    node.gpus[1].broken.add("lock")
    view = node.cycle()
    assert node.locked() == [None] * 4
    assert view.command_failures["lock"] == 1
    view = node.cycle()
    assert view.command_failures["lock"] == 1
    assert view.refusals[PodKey("prod", "a")].reason is Reason.GPU_ERROR
    node.gpus[1].broken.clear()
    node.cycle(after_s=30.0)
    assert node.locked()[:2] == [(345, 1200)] * 2


def test_driver_restart_locks_anew(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.gpus[0].locked = None
    node.gpus[0].offset_j = -100.0 * node.now_s
    node.cycle()
    node.cycle()
    assert node.locked()[0] == (345, 1200)


def test_readings_that_fail_are_absent_and_energy_catches_up(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    before_j = node.cycle().energy_j["GPU-0", PodKey("prod", "a")]
    node.gpus[0].broken.add("read")
    view = node.cycle()
    assert (view.gpus[0].power_w, view.gpus[0].clock_mhz) == (None, None)
    node.gpus[0].broken.clear()
    view = node.cycle()
    assert view.energy_j["GPU-0", PodKey("prod", "a")] - before_j == pytest.approx(200.0)
    assert view.gpus[0].clock_mhz == 1200


def test_view_of_a_shared_gpu_names_both_pods_and_charges_neither(node: Any) -> None:
    node.place("a", 0)
    node.place("b", 0, claim=(345, 1200))
    node.cycle()
    view = node.cycle()
    assert view.gpus[0].pods == (PodKey("prod", "a"), PodKey("prod", "b"))
    assert view.energy_j["GPU-0", PodKey("", "")] > 0
    assert node.locked() == [None] * 4


def test_three_missed_cycles_are_unhealthy(node: Any) -> None:
    node.now_s += 3.0
    assert not node.agent.unhealthy()
    node.now_s += 0.1
    assert "ended 3 s ago" in node.agent.unhealthy()


def test_run_resets_at_the_end_and_says_so(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    stop = threading.Event()
    stop.set()
    node.agent.run(stop)
    assert node.locked() == [None] * 4
    assert node.views[-1].stopped
    assert node.views[-1].gpus[0].commanded is Setting.DEFAULT


def test_run_resets_even_when_the_loop_is_torn_down(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    for gpu in node.gpus:
        gpu.locked = (345, 345)
    node.agent.cycle()
    monkeypatch.setattr(node.agent, "cycle", interrupted)
    node.place("a", 0, claim=(345, 900))
    with pytest.raises(KeyboardInterrupt):
        node.agent.run(threading.Event())
    assert node.gpus[0].calls[-1] == "reset"


class AnyHistory(RuleBasedStateMachine):
    """Whatever happens to claims, Lease, pods and GPUs, the safety rules hold after every cycle."""

    make_node: Callable[..., Any]

    def __init__(self) -> None:
        super().__init__()
        self.node = self.make_node(4)
        self.node.cycle()
        self.since_renewal_s = 0.0
        self.ranges: dict[PodKey, tuple[int, int]] = {}

    indexes = st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True)
    megahertz = st.integers(100, 2500)

    @rule(name=st.sampled_from("abc"), held=indexes, low=megahertz, high=megahertz)
    def place(self, name: str, held: list[int], low: int, high: int) -> None:
        pod = self.node.place(name, *held, claim=(min(low, high), max(low, high)))
        self.ranges[pod] = (min(low, high), max(low, high))

    @rule(name=st.sampled_from("abc"), held=indexes, text=st.sampled_from([None, "", "{}", '{"version":1}']))
    def place_without_valid_claim(self, name: str, held: list[int], text: str | None) -> None:
        self.node.place(name, *held, claim=text)

    @precondition(lambda self: self.node.pods_)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.node.remove(data.draw(st.sampled_from(sorted(self.node.pods_))))

    @rule(index=st.integers(0, 3), call=st.sampled_from(["lock", "read", "supported"]))
    def toggle_failure(self, index: int, call: str) -> None:
        self.node.gpus[index].broken ^= {call}

    @precondition(lambda self: self.node.pods_)
    @rule(
        data=st.data(),
        rate_rps=st.floats(0.0, 20.0),
        late=st.floats(0.0, 50.0),
        problem=st.sampled_from(["", "timed out"]),
    )
    def change_load(self, data: st.DataObject, rate_rps: float, late: float, problem: str) -> None:
        load = self.node.loads[data.draw(st.sampled_from(sorted(self.node.pods_)))]
        load.rate_rps, load.problem = rate_rps, problem
        load.late_gaps += late

    @rule(seconds=st.integers(1, 60))
    def go_on(self, seconds: int) -> None:
        for _ in range(seconds):
            self.cycle(1.0, True)

    @rule(index=st.integers(0, 3))
    def restart_driver(self, index: int) -> None:
        gpu = self.node.gpus[index]
        gpu.locked, gpu.offset_j = None, -100.0 * self.node.now_s

    @rule(after_s=st.sampled_from([0.0, 1.0, 10.0, 29.0, 31.0]), renew=st.booleans())
    def cycle(self, after_s: float, renew: bool) -> None:
        before = self.node.lease_
        self.node.cycle(after_s=after_s, renew=renew)
        self.since_renewal_s = 0.0 if self.node.lease_ != before else self.since_renewal_s + after_s
        self.check_after_cycle()

    def check_after_cycle(self) -> None:
        if self.since_renewal_s >= 30.0:
            assert self.node.locked() == [None] * 4
        holders = {
            gpu.uuid: [pod for pod, held in self.node.allocations.items() if gpu.uuid in held] for gpu in self.node.gpus
        }
        for gpu in self.node.gpus:
            assert gpu.locked is None or len(holders[gpu.uuid]) == 1
            if gpu.locked is not None:
                low, high = self.ranges[holders[gpu.uuid][0]]
                allowed = [mhz for mhz in gpu.supported if low <= mhz <= high]
                assert set(gpu.locked) <= set(allowed) or not allowed
        restarted = {gpu.uuid for gpu in self.node.gpus if gpu.offset_j}
        for held in self.node.allocations.values():
            if not restarted & set(held):
                assert len({gpu.locked for gpu in self.node.gpus if gpu.uuid in held}) == 1

    @invariant()
    def no_cycle_broke(self) -> None:
        assert self.node.views[-1].cycle_failures == 0


def test_any_history_is_safe(new_node: Callable[..., Any]) -> None:
    AnyHistory.make_node = staticmethod(new_node)
    machine = AnyHistory.TestCase
    machine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
    machine("runTest").runTest()
