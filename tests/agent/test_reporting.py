import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from dynawatt.agent.reporting import StatusReporter, node_status
from dynawatt.agent.view import NodeView
from dynawatt.api.gpunode import ClockControl, GPUNodeStatus
from dynawatt.errors import OperationError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)


def status_of(view: NodeView) -> GPUNodeStatus:
    return node_status(view, previous=GPUNodeStatus(), now=NOON)


def test_gpus_as_they_are(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.place("b", 1)
    node.gpus[2].broken.add("supported")
    node.gpus[3].supported = ()
    node.agent = node.start_agent()
    node.cycle(renew=False)
    status = status_of(node.cycle())
    held, free, fixed = status.gpus[0], status.gpus[2], status.gpus[3]
    assert held.to_dict() == {
        "uuid": "GPU-0",
        "product": "NVIDIA-H100-80GB-HBM3",
        "clockControl": "Supported",
        "minClockMegahertz": 345,
        "maxClockMegahertz": 1980,
        "allocatedTo": "prod/a",
        "claim": {"minMegahertz": 345, "maxMegahertz": 1200},
    }
    assert (free.clock_control, free.allocated_to, free.claim) == (ClockControl.UNKNOWN, None, None)
    assert fixed.clock_control is ClockControl.UNSUPPORTED
    assert (status.summary.gpu_count, status.summary.allocated, status.summary.claimed) == (4, 2, 1)


def break_reset(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.cycle()
    node.gpus[0].broken.add("reset")
    node.place("a", 0)


def break_lock(node: Any) -> None:
    node.place("a", 0, claim=(345, 1200))
    node.gpus[0].broken.add("lock")
    node.cycle()


def lose_allocations(node: Any) -> None:
    node.allocations = None


@pytest.mark.parametrize(
    ("prepare", "status", "reason", "message"),
    [
        (lambda node: None, "True", "NoClaims", "No GPU is claimed; all run at their default clocks."),
        (lambda node: node.place("a", 0, claim=(345, 900)), "True", "ClaimsApplied", "All claimed GPUs are kept"),
        (lambda node: node.place("a", 0, claim="{}"), "False", "InvalidClaim", "prod/a: clock claim has version None"),
        (break_lock, "False", "GPUError", "prod/a: GPU-0 refused 345-1200MHz"),
        (break_reset, "False", "GPUError", "The clocks of GPU-0 could be neither set nor reset."),
        (
            lose_allocations,
            "Unknown",
            "AllocationsUnavailable",
            "then brought back to default: kubelet is away.",
        ),
    ],
)
def test_clocks_governed(node: Any, prepare: Callable[[Any], object], status: str, reason: str, message: str) -> None:
    prepare(node)
    (condition,) = status_of(node.cycle()).conditions
    assert (condition.type, condition.status, condition.reason) == ("ClocksGoverned", status, reason)
    assert message in condition.message


def test_stale_lease(node: Any) -> None:
    node.place("a", 0, claim=(345, 900))
    (condition,) = status_of(node.cycle(after_s=30.0, renew=False)).conditions
    assert (condition.status, condition.reason) == ("False", "LeaseStale")
    assert condition.message == "All clocks are at default: the operator's lease was not renewed for its 30 s."


def test_the_clock_within_a_claim_is_not_written(node: Any) -> None:
    pod = node.place("a", 0, claim=(345, 1980))
    before = status_of(node.cycle())
    node.loads[pod].rate_rps = 0.0
    after = status_of(node.run(200))
    assert node.locked()[0] == (345, 810)
    assert after == before


def test_a_serving_pod_that_cannot_be_read_is_told_and_one_that_starts_is_not(node: Any) -> None:
    serving, starting = node.place("a", 0, claim=(345, 900)), node.place("b", 1, claim=(345, 900))
    node.pods_[starting]["status"]["conditions"] = []
    for pod in (serving, starting):
        node.loads[pod].problem = "HTTP 503"
    (condition,) = status_of(node.run(10)).conditions
    assert (condition.status, condition.reason) == ("True", "ClaimsApplied")
    assert condition.message == "GPUs of pods whose metrics cannot be read are at their ceiling: prod/a: HTTP 503."


def test_many_refusals_are_counted(node: Any) -> None:
    for index in range(4):
        node.place(f"pod-{index}", index, claim="{}")
    (condition,) = status_of(node.cycle()).conditions
    assert "pod-2" in condition.message
    assert "pod-3" not in condition.message
    assert condition.message.endswith("; and 1 more.")


def test_transition_time_moves_with_the_status_only(node: Any) -> None:
    first = status_of(node.cycle())
    node.place("a", 0, claim=(345, 900))
    second = node_status(node.cycle(), previous=first, now=LATER)
    assert second.conditions[0].reason != first.conditions[0].reason
    assert second.conditions[0].last_transition_time == NOON
    stale = node_status(node.cycle(after_s=30.0, renew=False), previous=second, now=LATER)
    assert stale.conditions[0].last_transition_time == LATER


class MemoryStore:
    def __init__(self) -> None:
        self.stored = GPUNodeStatus()
        self.saved: list[GPUNodeStatus] = []
        self.loads = 0
        self.away = False

    def load(self) -> GPUNodeStatus:
        self.loads += 1
        if self.away:
            raise OperationError("API is away")
        return self.stored

    def save(self, status: GPUNodeStatus) -> None:
        if self.away:
            raise OperationError("API is away")
        self.stored = status
        self.saved.append(status)


def test_written_on_change_only(node: Any) -> None:
    store = MemoryStore()
    reporter = StatusReporter(store, now=lambda: NOON)
    assert [reporter.write(node.cycle()) for _ in range(5)] == [True, False, False, False, False]
    node.place("a", 0, claim=(345, 900))
    assert [reporter.write(node.cycle()) for _ in range(3)] == [True, False, False]
    assert (len(store.saved), store.loads) == (2, 1)


def test_a_restarted_agent_rewrites_nothing_that_stands(node: Any) -> None:
    store = MemoryStore()
    StatusReporter(store, now=lambda: NOON).write(node.cycle())
    assert not StatusReporter(store, now=lambda: LATER).write(node.cycle())


def test_after_a_failure_the_object_is_read_anew(node: Any) -> None:
    store = MemoryStore()
    reporter = StatusReporter(store, now=lambda: NOON)
    reporter.write(node.cycle())
    node.place("a", 0, claim=(345, 900))
    store.away = True
    with pytest.raises(OperationError):
        reporter.write(node.cycle())
    store.away, store.stored = False, GPUNodeStatus()
    assert reporter.write(node.cycle())
    assert store.stored.summary.claimed == 1


def test_thread_survives_an_api_that_is_away_and_writes_the_last_view_when_stopped(node: Any) -> None:
    store = MemoryStore()
    store.away = True
    reporter = StatusReporter(store, now=lambda: NOON)
    reporter.start()
    reporter.submit(node.cycle())
    deadline_s = time.monotonic() + 5.0
    while not store.loads and time.monotonic() < deadline_s:
        time.sleep(0.01)
    store.away = False
    node.place("a", 0, claim=(345, 900))
    reporter.submit(node.cycle())
    reporter.stop()
    assert store.stored.summary.claimed == 1
