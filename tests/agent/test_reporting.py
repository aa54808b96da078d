import time
from datetime import UTC, datetime

import pytest

from dynawatt.agent.enforcing import ClockRange
from dynawatt.agent.reporting import StatusReporter
from dynawatt.api.gpunode import GPUNodeStatus
from dynawatt.errors import OperationError

from .views import READING, A, gpu_view, node_view

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 1, 1, 13, tzinfo=UTC)
IDLE = node_view()
CLAIMED = node_view(gpu_view(pods=(A,), commanded=ClockRange(345, 900), claim=ClockRange(345, 900)), claims=1)


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


def test_written_on_change_only() -> None:
    store = MemoryStore()
    reporter = StatusReporter(store, now=lambda: NOON)
    warmer = node_view(gpu_view(reading=READING._replace(temperature_c=60.0)))
    assert [reporter.write(view) for view in (IDLE, IDLE, warmer)] == [True, False, False]
    assert [reporter.write(CLAIMED) for _ in range(3)] == [True, False, False]
    assert (len(store.saved), store.loads) == (2, 1)


def test_a_restarted_agent_rewrites_nothing_that_stands() -> None:
    store = MemoryStore()
    StatusReporter(store, now=lambda: NOON).write(IDLE)
    assert not StatusReporter(store, now=lambda: LATER).write(IDLE)


def test_after_a_failure_the_object_is_read_anew() -> None:
    store = MemoryStore()
    reporter = StatusReporter(store, now=lambda: NOON)
    reporter.write(IDLE)
    store.away = True
    with pytest.raises(OperationError):
        reporter.write(CLAIMED)
    store.away, store.stored = False, GPUNodeStatus()
    assert reporter.write(CLAIMED)
    assert store.stored.summary.claimed == 1


@pytest.mark.parametrize("problem", ["the API is away", "the view makes no status"])
def test_thread_survives_and_writes_the_last_view_when_stopped(problem: str) -> None:
    store = MemoryStore()
    store.away = problem == "the API is away"
    reporter = StatusReporter(store, now=lambda: NOON)
    reporter.start()
    reporter.submit(IDLE if store.away else node_view(gpu_view("GPU-" + 200 * "0")))
    deadline_s = time.monotonic() + 5.0
    while not store.loads and time.monotonic() < deadline_s:
        time.sleep(0.01)
    store.away = False
    reporter.submit(CLAIMED)
    reporter.stop()
    assert store.stored.summary.claimed == 1
