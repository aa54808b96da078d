from dataclasses import replace
from typing import Any

import pytest

from dynawatt.agent.claims import PodClaim
from dynawatt.agent.governing import BLIND_S, Governed, PodGovernors
from dynawatt.agent.view import NodeView
from dynawatt.governing.governor import BURN_WINDOW_S, CLEAN_S, LOAD_WINDOW_S
from dynawatt.governing.reading import PodReading
from dynawatt.governing.table import ClockRow, GovernorTable
from dynawatt.ports import PodKey, Scrape

A, B = PodKey("prod", "a"), PodKey("prod", "b")
ROWS = (ClockRow(800, 1.0, 8e3, 20), ClockRow(1200, 3.0, 12e3, 60), ClockRow(1600, 6.0, 16e3, 100))
TABLE = GovernorTable(0.99, 0.1, 0.5, 1000.0, 400.0, False, ROWS)
CLAIM = PodClaim("prod/llama", 800, 1980, TABLE, None, "10.0.0.1", 8000, ready=True)
SETTLED_S = int(LOAD_WINDOW_S + CLEAN_S + 8)


class Pods:
    """Governors, and pods that serve requests at a rate, each with a first token and ten gaps."""

    def __init__(self, *pods: PodKey) -> None:
        self.governors = PodGovernors()
        self.now_s = 50.0
        self.claims = dict.fromkeys(pods or (A,), CLAIM)
        self.rates_rps = dict.fromkeys(self.claims, 0.5)
        self.requests = dict.fromkeys(self.claims, 0.0)
        self.broken: dict[PodKey, Scrape | None] = {}

    def step(self, seconds: int = 1) -> dict[PodKey, Governed]:
        found: dict[PodKey, Governed] = {}
        for _ in range(seconds):
            self.now_s += 1.0
            scrapes = {}
            for pod, rate_rps in self.rates_rps.items():
                self.requests[pod] += rate_rps
                scrapes[pod] = Scrape(self.now_s, self.reading(pod), "")
            scrapes |= {pod: scrape for pod, scrape in self.broken.items() if scrape is not None}
            for pod in [pod for pod, scrape in self.broken.items() if scrape is None]:
                del scrapes[pod]
            found = self.governors.step(self.now_s, self.claims, scrapes)
        return found

    def reading(self, pod: PodKey) -> PodReading:
        done = self.requests[pod]
        return PodReading(5.0, 0.0, 0.01, done, done, done, 10 * done, 10 * done, 1000 * done, 11 * done)

    def clock(self, seconds: int = 1) -> int:
        return self.step(seconds)[A].clock_mhz


@pytest.fixture
def settled() -> Pods:
    """A pod whose governor has seen a low load for long."""
    pods = Pods()
    assert pods.step(SETTLED_S) == {A: Governed(800, "load", "")}
    return pods


def test_it_begins_at_the_ceiling(settled: Pods) -> None:
    assert Pods().step() == {A: Governed(1980, "starting", "")}


def test_pods_are_governed_apart() -> None:
    pods = Pods(A, B)
    pods.rates_rps[B] = 5.0
    found = pods.step(SETTLED_S)
    assert (found[A].clock_mhz, found[B].clock_mhz) == (800, 1600)


BROKEN = [
    None,
    Scrape(0.0, None, "HTTP 503"),
    Scrape(0.0, PodReading(5.0, None, *[1.0] * 8), "the page does not tell waiting"),
    Scrape(0.0, PodReading(5.0, float("nan"), *[1.0] * 8), "the page does not tell possible numbers"),
]


@pytest.mark.parametrize("scrape", BROKEN)
def test_a_pod_that_cannot_be_read_keeps_its_clock_for_a_moment_and_then_gets_the_ceiling(
    settled: Pods, scrape: Scrape | None
) -> None:
    settled.broken[A] = scrape
    assert settled.clock(int(BLIND_S) - 1) == 800
    found = settled.step()[A]
    assert (found.clock_mhz, found.reason) == (1980, "blind")
    assert found.problem == (scrape.problem if scrape else "it has no address yet")
    assert settled.clock(1000) == 1980


def test_readings_that_come_back_after_a_moment_go_on_as_before(settled: Pods) -> None:
    settled.broken[A] = BROKEN[1]
    settled.step(int(BLIND_S) - 1)
    settled.broken.clear()
    assert settled.clock() == 800


def test_after_a_blind_time_the_load_is_learnt_anew(settled: Pods) -> None:
    settled.broken[A] = BROKEN[1]
    settled.step(60)
    settled.broken.clear()
    assert settled.step()[A] == Governed(1980, "starting", "")
    assert settled.clock(int(BURN_WINDOW_S + CLEAN_S) - 1) == 1980
    assert settled.clock(SETTLED_S) == 800


def test_a_pod_that_starts_has_no_problem() -> None:
    pods = Pods()
    pods.claims[A] = replace(CLAIM, ready=False)
    pods.broken[A] = Scrape(0.0, None, "Connection refused")
    assert pods.step(60)[A] == Governed(1980, "blind", "")


def test_a_claim_rewritten_with_the_same_terms_changes_nothing(settled: Pods) -> None:
    settled.claims[A] = replace(CLAIM, table=replace(TABLE), port=9000)
    assert settled.step() == {A: Governed(800, "load", "")}
    settled.rates_rps[A] = 0.9  # what was read before still counts
    assert settled.clock() == 800


@pytest.mark.parametrize(
    ("changes", "at_once_mhz", "settled_mhz"),
    [
        ({"rows": (ClockRow(1000, 2.0, 9e3, 30), ClockRow(1500, 4.0, 12e3, 60))}, 1000, 1000),
        ({"rows": (ClockRow(800, 0.3, 8e3, 20), ClockRow(1200, 3.0, 12e3, 60))}, 1200, 1200),
        ({"rows": (ClockRow(800, 0.1, 8e3, 20), ClockRow(1200, 0.2, 12e3, 60))}, 1980, 1980),
        ({"prompt_tokens": 4000.0}, 800, 800),
    ],
)
def test_a_new_table_counts_at_once_with_what_was_read_before(
    settled: Pods, changes: dict[str, Any], at_once_mhz: int, settled_mhz: int
) -> None:
    settled.claims[A] = replace(CLAIM, table=replace(TABLE, **changes))
    assert settled.clock() == at_once_mhz
    assert settled.clock(SETTLED_S) == settled_mhz


def test_a_new_table_that_allows_less_goes_down_after_clean_windows(settled: Pods) -> None:
    settled.rates_rps[A] = 5.0
    assert settled.clock(SETTLED_S) == 1600
    settled.claims[A] = replace(CLAIM, table=replace(TABLE, rows=(ClockRow(800, 9.0, 8e3, 20), *ROWS[1:1])))
    assert settled.clock(int(CLEAN_S) - 1) >= 1600
    assert settled.clock(int(CLEAN_S)) == 800


@pytest.mark.parametrize(("floor_mhz", "ceiling_mhz", "clock_mhz"), [(1000, 1980, 1000), (600, 700, 700)])
def test_a_new_range_is_kept_at_once(settled: Pods, floor_mhz: int, ceiling_mhz: int, clock_mhz: int) -> None:
    settled.claims[A] = replace(CLAIM, floor_mhz=floor_mhz, ceiling_mhz=ceiling_mhz)
    assert settled.clock() == clock_mhz


@pytest.mark.parametrize("changes", [{"table": replace(TABLE, tbt_s=0.2)}, {"ttft_s": 0.4}])
def test_new_objectives_start_anew(settled: Pods, changes: dict[str, Any]) -> None:
    settled.claims[A] = replace(CLAIM, **changes)
    assert settled.step()[A] == Governed(1980, "starting", "")


def test_a_pod_without_a_claim_is_forgotten(settled: Pods) -> None:
    settled.claims.clear()
    assert settled.step() == {}
    settled.claims[A] = CLAIM
    assert settled.step()[A].clock_mhz == 1980


# In the agent's loop


def test_all_gpus_of_a_pod_follow_its_load_and_are_set_only_on_change(node: Any) -> None:
    pod = node.place("a", 0, 1, claim=(345, 1980))
    node.loads[pod].rate_rps = 2.0
    view: NodeView = node.run(200)
    assert node.locked() == [(345, 1200), (345, 1200), None, None]
    assert view.governed[pod] == Governed(1200, "load", "")
    calls = [list(gpu.calls) for gpu in node.gpus]
    node.run(100)
    assert [gpu.calls for gpu in node.gpus] == calls
    node.loads[pod].rate_rps = 0.0
    node.run(200)
    assert node.locked() == [(345, 810), (345, 810), None, None]


@pytest.mark.parametrize("burst", [{"waiting": 100.0}, {"late_gaps": 100.0}, {"rate_rps": 150.0}])
def test_a_burst_in_the_metrics_is_answered_in_the_same_cycle(node: Any, burst: dict[str, float]) -> None:
    pod = node.place("a", 0, 1, claim=(345, 1980))
    node.loads[pod].rate_rps = 1.0
    node.run(200)
    assert node.locked()[0] != (345, 1980)
    for name, value in burst.items():
        setattr(node.loads[pod], name, value)
    node.cycle()
    assert node.locked() == [(345, 1980), (345, 1980), None, None]


def test_one_silent_pod_does_not_keep_the_others_from_being_governed(node: Any) -> None:
    silent, other = node.place("a", 0, claim=(345, 1980)), node.place("b", 1, claim=(345, 1980))
    for pod in (silent, other):
        node.loads[pod].rate_rps = 0.0
    node.run(200)
    node.loads[silent].problem = "timed out"
    node.run(10)
    assert node.locked()[:2] == [(345, 1980), (345, 810)]


def test_after_a_stale_lease_governing_begins_anew(node: Any) -> None:
    pod = node.place("a", 0, claim=(345, 1980))
    node.loads[pod].rate_rps = 0.0
    node.run(200)
    view: NodeView = node.cycle(after_s=31.0, renew=False)
    assert node.locked() == [None] * 4
    assert view.governed == {}
    assert node.cycle().governed[pod].reason == "starting"
    assert node.locked()[0] == (345, 1980)
