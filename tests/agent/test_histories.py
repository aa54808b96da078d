"""The safety rules of the agent under any history of pods, claims, faults and kills."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dynawatt.agent.limiting import CALLS_PER_S
from dynawatt.agent.view import HOLD_S
from dynawatt.api.group import CLAIM_ANNOTATION
from dynawatt.ports import PodKey

from .memory_node import Killed, Node, claim_text

LEASE_S = 30.0
BURST = 6
UUIDS = [f"GPU-{index}" for index in range(4)]
NAMES = st.sampled_from("abc")
INDEXES = st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True)
MEGAHERTZ = st.integers(100, 2500)
CYCLES = st.integers(0, 3)
AWAY_S = st.lists(st.sampled_from([1.0, 9.0, 10.0, 29.0, 30.0]), max_size=2)
SPOILT = [None, b"", b"\x00\xff", b'{"version": 1, "gpus": [', b'{"version": 1, "gpus": [], "sha256": "0"}']


class StopAfter:
    """An event that is set after so many cycles of an agent."""

    def __init__(self, cycles: int) -> None:
        self._left = cycles

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0

    def wait(self, _: float) -> None:
        """Time moves only in tests."""


class AnyHistory(RuleBasedStateMachine):
    """One node. What the agent can know is modelled by the fields below; what is locked is read from the GPUs."""

    make_node: Callable[..., Node]

    def __init__(self) -> None:
        super().__init__()
        self.node = self.make_node()
        for gpu in self.node.gpus:
            gpu.offset_j = 1e10  # of which each restart of the driver takes a part
        self.claims: dict[PodKey, tuple[int, int]] = {}
        self.uids = 0
        self.restarting: dict[str, int] = {}
        self.began()

    def began(self) -> None:
        """An agent has been started, which knows nothing."""
        self.renewed_s: float | None = None
        self.lease_observed = False
        self.lease: Mapping[str, Any] | None = None
        self.kubelet_s = self.node.now_s
        self.first_held: dict[tuple[PodKey, str], frozenset[str]] = {}
        self.restarting.clear()
        for gpu in self.node.gpus:
            gpu.called_s.clear()

    @initialize(low=MEGAHERTZ, high=MEGAHERTZ)
    def begin_with_a_governed_group(self, low: int, high: int) -> None:
        self.place("a", [0, 1], low, high, same_pod=True, cycles=2)

    # --- Pods and claims; each change meets a cycle at once, or the next change ---

    @rule(name=NAMES, held=INDEXES, low=MEGAHERTZ, high=MEGAHERTZ, same_pod=st.booleans(), cycles=CYCLES)
    def place(self, name: str, held: list[int], low: int, high: int, same_pod: bool, cycles: int) -> None:
        """A pod with a claim; or, under the same name, one that the API takes for the same pod or for another."""
        self.uids += not same_pod
        pod = self.node.place(name, *held, claim=(min(low, high), max(low, high)), uid=f"{name}{self.uids}")
        self.claims[pod] = min(low, high), max(low, high)
        self.go_on(cycles)

    @rule(name=NAMES, held=INDEXES, text=st.sampled_from([None, "", "{}", '{"version":1}']), cycles=CYCLES)
    def place_without_a_valid_claim(self, name: str, held: list[int], text: str | None, cycles: int) -> None:
        self.claims.pop(self.node.place(name, *held, claim=text, uid=f"{name}{self.uids}"), None)
        self.go_on(cycles)

    @precondition(lambda self: self.claims.keys() & self.node.pods_.keys())
    @rule(data=st.data(), low=MEGAHERTZ, high=MEGAHERTZ, fault=st.sampled_from(["", "", "lock", "hang"]))
    def rewrite_claim(self, data: st.DataObject, low: int, high: int, fault: str) -> None:
        """As the operator does all the time; perhaps just when a GPU fails."""
        pod = data.draw(st.sampled_from(sorted(self.claims.keys() & self.pods.keys())))
        self.claims[pod] = min(low, high), max(low, high)
        self.pods[pod]["metadata"]["annotations"][CLAIM_ANNOTATION] = claim_text(*self.claims[pod])
        gpu = self.node.gpus[data.draw(st.integers(0, 3))]
        gpu.broken |= {fault} - {"hang", ""}
        gpu.hangs |= fault == "hang"
        self.go_on(1)

    @precondition(lambda self: self.node.pods_)
    @rule(data=st.data(), known_to=st.sampled_from(["nobody", "api", "kubelet"]), cycles=CYCLES)
    def remove(self, data: st.DataObject, known_to: str, cycles: int) -> None:
        pod = self.any_pod(data)
        if known_to != "api":
            del self.pods[pod]
        if known_to != "kubelet":
            self.allocations.pop(pod, None)
        self.go_on(cycles)

    @precondition(lambda self: self.node.pods_)
    @rule(data=st.data(), phase=st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]))
    def change_phase_for_a_while(self, data: st.DataObject, phase: str) -> None:
        status = self.pods[self.any_pod(data)]["status"]
        status["phase"] = phase
        self.go_on(2)
        status["phase"] = "Running"

    @precondition(lambda self: self.node.pods_)
    @rule(data=st.data(), device=st.sampled_from(["GPU-away", "MIG-1", "GPU-0::1", "GPU-0", "0"]))
    def hold_something_odd_for_a_while(self, data: st.DataObject, device: str) -> None:
        held = self.allocations.setdefault(self.any_pod(data), [])
        held.append(device)
        self.go_on(2)
        held.remove(device)

    @precondition(lambda self: self.node.pods_)
    @rule(data=st.data(), rate_rps=st.floats(0.0, 20.0), late=st.floats(0.0, 50.0), problem=st.sampled_from(["", "?"]))
    def change_load(self, data: st.DataObject, rate_rps: float, late: float, problem: str) -> None:
        load = self.node.loads[self.any_pod(data)]
        load.rate_rps, load.problem = rate_rps, problem
        load.late_gaps += late

    # --- What may be broken, away or wrong, for a while or until it is repaired ---

    @rule(
        index=st.integers(0, 3),
        fault=st.sampled_from(["lock", "reset", "read", "supported", "health", "hang"]),
        cycles=CYCLES,
        lasts=st.booleans(),
    )
    def break_a_gpu(self, index: int, fault: str, cycles: int, lasts: bool) -> None:
        gpu = self.node.gpus[index]
        if fault == "hang":
            gpu.hangs = True
        else:
            gpu.broken.add(fault)
        self.go_on(cycles)
        if not lasts:
            gpu.broken.clear()
            gpu.wake()

    @rule(index=st.integers(0, 3), cycles=CYCLES)
    def restart_driver(self, index: int, cycles: int) -> None:
        gpu = self.node.gpus[index]
        if not gpu.hangs:
            gpu.locked = None
            gpu.offset_j -= 1e8
            self.restarting[gpu.uuid] = 0
        self.go_on(cycles)

    @rule(after_s=AWAY_S, lasts=st.booleans())
    def lose_kubelet(self, after_s: list[float], lasts: bool) -> None:
        self.node.kubelet_away = True
        self.cycles(after_s)
        self.node.kubelet_away = lasts

    @rule(after_s=AWAY_S, lasts=st.booleans(), holder=st.sampled_from(["operator-1", "operator-1", "operator-2", ""]))
    def lose_api(self, after_s: list[float], lasts: bool, holder: str) -> None:
        self.node.renew(holder=holder)
        self.cycle(1.0, False)
        self.node.lease_known = False
        self.cycles(after_s)
        self.node.lease_known = not lasts

    @rule(enabled=st.sampled_from(["true", "false", "flase", ""]), cycles=CYCLES, lasts=st.booleans())
    def switch(self, enabled: str, cycles: int, lasts: bool) -> None:
        self.node.switch_ = {"data": {"enabled": enabled}}
        self.go_on(cycles)
        if not lasts:
            self.node.switch_ = None

    @rule(cycles=CYCLES)
    def fill_the_disk(self, cycles: int) -> None:
        self.node.disk_full = True
        self.go_on(cycles)

    @rule(first=st.sampled_from(["", "gpus"]), cycles=CYCLES)
    def repair(self, first: str, cycles: int) -> None:
        """All of it, the GPUs perhaps a moment before the rest."""
        node = self.node
        for gpu in node.gpus:
            gpu.broken.clear()
            gpu.wake()
        if first:
            self.go_on(cycles)
        node.kubelet_away = node.disk_full = False
        node.lease_known = node.switch_known = node.pods_known = True
        node.switch_ = None
        self.go_on(cycles)

    # --- Time, and the ends of agents ---

    @rule(seconds=st.integers(1, 10))
    def go_on(self, seconds: int) -> None:
        for _ in range(seconds):
            self.cycle(1.0, True)

    def cycles(self, after_s: list[float]) -> None:
        for each_s in after_s:
            self.cycle(each_s, True)

    @rule(after_s=st.sampled_from([1.0, 3.0, 9.0, 10.0, 29.0, 31.0]), renew=st.booleans())
    def cycle(self, after_s: float, renew: bool) -> None:
        before = self.locked()
        self.node.cycle(after_s=after_s, renew=renew)
        self.observe()
        self.check(before)

    @rule(
        moments=st.integers(0, 16),
        renew=st.booleans(),
        knows=st.sampled_from([True, True, False]),
        journal=st.none() | st.sampled_from(SPOILT),
        spoil=st.sampled_from([False, False, True]),
    )
    def kill(self, moments: int, renew: bool, knows: bool, journal: bytes | None, spoil: bool) -> None:
        """At any moment of a cycle or after it; then the next agent starts, on whatever is left of the journal."""
        self.node.moments_left = moments
        with contextlib.suppress(Killed):
            self.node.cycle(renew=renew)
        assert self.maybe_locked() <= self.node.journalled() or not self.journal.exists()
        if spoil:
            self.journal.unlink(missing_ok=True)
            if journal is not None:
                self.journal.write_bytes(journal)
        self.node.pods_known = self.node.switch_known = knows
        self.node.restart()
        self.began()
        self.cycle(1.0, True)
        assert not self.locked().keys() - self.stuck()

    @rule(cycles=st.integers(0, 2))
    def terminate(self, cycles: int) -> None:
        """As SIGTERM does, after some more cycles."""
        stop: Any = StopAfter(cycles)
        self.node.agent.run(stop)
        assert not self.locked().keys() - self.stuck()
        self.node.restart()
        self.began()

    @rule()
    def settle(self) -> None:
        """Once nothing is broken, every claim that can be followed is followed, and nothing else is locked."""
        self.repair("", 2)
        self.cycle(31.0, True)  # a GPU that refused is tried again
        self.go_on(2)
        followed = {uuid for pod in self.claims for uuid in self.governable(pod)}
        assert set(self.locked()) == followed == self.node.journalled()

    # --- The model ---

    @property
    def pods(self) -> dict[PodKey, dict[str, Any]]:
        assert self.node.pods_ is not None
        return self.node.pods_

    @property
    def allocations(self) -> dict[PodKey, list[str]]:
        assert self.node.allocations is not None
        return self.node.allocations

    @property
    def journal(self) -> Any:
        return self.node.directory / "clocks.json"

    def any_pod(self, data: st.DataObject) -> PodKey:
        return data.draw(st.sampled_from(sorted(self.pods)))

    def locked(self) -> dict[str, tuple[int, int]]:
        return {gpu.uuid: gpu.locked for gpu in self.node.gpus if gpu.locked}

    def maybe_locked(self) -> set[str]:
        return {gpu.uuid for gpu in self.node.gpus if gpu.locked or any(gpu.begun)}

    def stuck(self) -> set[str]:
        """GPUs that nobody can reset now."""
        return {gpu.uuid for gpu in self.node.gpus if gpu.hangs or "reset" in gpu.broken}

    def phase(self, pod: PodKey) -> str:
        return str(self.pods[pod]["status"]["phase"]) if pod in self.pods else ""

    def over(self, pod: PodKey) -> bool:
        return self.phase(pod) in {"Succeeded", "Failed"}

    def uid(self, pod: PodKey) -> tuple[PodKey, str]:
        return pod, self.pods[pod]["metadata"]["uid"]

    def users(self, uuid: str) -> list[PodKey]:
        return [
            pod
            for pod, held in self.allocations.items()
            if uuid in {device.partition("::")[0] for device in held} and not self.over(pod)
        ]

    def governable(self, pod: PodKey) -> set[str]:
        """The GPUs of a pod, if there is no doubt that it runs and holds them alone."""
        held = set(self.allocations.get(pod, ()))
        certain = (
            held <= set(UUIDS)
            and self.phase(pod) == "Running"
            and all(self.users(uuid) == [pod] for uuid in held)
            and not self.strays()
        )
        return held if certain and self.first_held.get(self.uid(pod), held) == held else set()

    def strays(self) -> bool:
        """Whether some pod holds what may be any GPU of this node."""
        return any(
            not device.startswith(("GPU-", "MIG-"))
            for pod, held in self.allocations.items()
            for device in held
            if not self.over(pod)
        )

    def observe(self) -> None:
        """What the agent knows after a cycle."""
        node = self.node
        if node.lease_known:
            if self.lease_observed and node.lease_ != self.lease:
                self.renewed_s = node.now_s
            self.lease_observed, self.lease = True, node.lease_
        if node.kubelet_away:
            return
        self.kubelet_s = node.now_s
        alive = {self.uid(pod) for pod in self.pods} if node.pods_known else set()
        self.first_held = {pod: held for pod, held in self.first_held.items() if pod in alive}
        for pod, held in self.allocations.items():
            if held and node.pods_known and self.phase(pod) == "Running":
                self.first_held.setdefault(self.uid(pod), frozenset(held))

    def claims_hold(self) -> bool:
        switch = self.node.switch_
        on = self.node.switch_known and (switch is None or switch["data"]["enabled"] == "true")
        held = self.lease is not None and bool(self.lease["spec"]["holderIdentity"])
        return on and held and self.renewed_s is not None and self.node.now_s - self.renewed_s < LEASE_S

    def check(self, before: Mapping[str, tuple[int, int]]) -> None:
        """What must be so after every cycle, but for GPUs that nobody can reset."""
        node, stuck = self.node, self.stuck()
        assert node.views[-1].cycle_failures == 0
        assert self.maybe_locked() <= node.journalled() or not self.journal.exists()
        locked = {uuid: clocks for uuid, clocks in self.locked().items() if uuid not in stuck}
        if not self.claims_hold() or node.now_s - self.kubelet_s >= HOLD_S:
            assert not locked
        elif node.kubelet_away or not node.pods_known:
            assert locked.items() <= before.items()
        else:
            self.check_followed(locked, stuck)
        for uuid in [uuid for uuid, cycles in self.restarting.items() if cycles]:
            del self.restarting[uuid]
        for gpu in node.gpus:
            if gpu.uuid in self.restarting and not gpu.hangs and "read" not in gpu.broken:
                self.restarting[gpu.uuid] += 1  # it has seen the counter fall, and acts on it in the next cycle

    def check_followed(self, locked: Mapping[str, tuple[int, int]], stuck: set[str]) -> None:
        for uuid, (low, high) in locked.items():
            [pod] = self.users(uuid)
            assert uuid in self.governable(pod)
            floor, ceiling = self.claims[pod]
            allowed = [mhz for mhz in self.node.gpus[0].supported if floor <= mhz <= ceiling]
            assert {low, high} <= set(allowed) or (not allowed and low == high)
        for pod, held in self.allocations.items():
            group = set(held) & set(UUIDS) - stuck - self.restarting.keys()
            assert self.over(pod) or len({locked.get(uuid) for uuid in group}) <= 1

    @invariant()
    def calls_are_bounded(self) -> None:
        for gpu in self.node.gpus:
            within_s = [sum(begin <= at < begin + 1.0 for at in gpu.called_s) for begin in set(gpu.called_s)]
            assert max(within_s, default=0) <= BURST + CALLS_PER_S

    def teardown(self) -> None:
        self.node.close()


def test_any_history_is_safe(new_node: Callable[..., Node]) -> None:
    AnyHistory.make_node = staticmethod(new_node)
    machine = AnyHistory.TestCase
    machine.settings = settings(
        max_examples=150,
        stateful_step_count=30,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    machine("runTest").runTest()
