import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dynawatt.adapters.kubernetes.client import resource_path
from dynawatt.adapters.kubernetes.watch import NotSyncedError, Watcher

PODS = resource_path("v1", "pods", namespace="prod")
FOREVER = [30.0]


def pod(name: str, version: int, uid: str | None = None) -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}}


def pods(version: int, *items: dict[str, Any]) -> tuple[int, Any]:
    meta = {"resourceVersion": str(version)}
    return 200, {"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": list(items)}


def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "object": item}


class Script:
    """Answers lists and watches in order; the last of each repeats."""

    def __init__(self, *, lists: list[Any], watches: list[Any]) -> None:
        self.lists, self.watches = lists, watches
        self.requests: list[str] = []

    def __call__(self, handler: Any, body: Any) -> tuple[int, Any]:
        self.requests.append(handler.path)
        script = self.watches if "watch=1" in handler.path else self.lists
        step = script.pop(0) if len(script) > 1 else script[0]
        return (200, step) if isinstance(step, list) else step


def eventually(check: Callable[[], bool], within_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def watching(serve: Any) -> Iterator[Callable[..., tuple[Watcher, list[tuple[str, str]]]]]:
    started: list[Watcher] = []

    def start(script: Script, **options: Any) -> tuple[Watcher, list[tuple[str, str]]]:
        events: list[tuple[str, str]] = []
        watcher = Watcher(
            serve(script),
            PODS,
            on_event=lambda kind, item: events.append((kind, item["metadata"]["name"])),
            max_pause_s=0.5,
            **options,
        )
        started.append(watcher.start())
        return watcher, events

    yield start
    for watcher in started:
        watcher.stop()


def names(watcher: Watcher) -> set[str]:
    return {item["metadata"]["name"] for item in watcher.snapshot().values()}


def test_list_then_events(watching: Any) -> None:
    changes = [event("ADDED", pod("c", 11)), event("MODIFIED", pod("a", 12)), event("DELETED", pod("b", 13))]
    script = Script(lists=[pods(10, pod("a", 1), pod("b", 2))], watches=[changes + FOREVER])
    watcher, events = watching(script, label_selector="app=vllm", field_selector="spec.nodeName=n0")
    eventually(lambda: len(events) == 5)
    assert events[2:] == [("ADDED", "c"), ("MODIFIED", "a"), ("DELETED", "b")]
    assert names(watcher) == {"a", "c"}
    assert watcher.snapshot()["uid-a"]["metadata"]["resourceVersion"] == "12"
    assert all("labelSelector=app%3Dvllm" in path and "nodeName%3Dn0" in path for path in script.requests)


def test_listed_items_have_kind(watching: Any) -> None:
    watcher, _ = watching(Script(lists=[pods(10, pod("a", 1))], watches=[FOREVER]))
    assert watcher.synced.wait(5)
    assert watcher.snapshot()["uid-a"]["kind"] == "Pod"


def test_resumes_from_the_last_version_after_the_server_ends_the_watch(watching: Any) -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "17"}})
    script = Script(lists=[pods(10)], watches=[[event("ADDED", pod("a", 11)), bookmark], FOREVER])
    watcher, _ = watching(script)
    eventually(lambda: len(script.requests) == 3)
    assert "resourceVersion=17" in script.requests[2]
    assert names(watcher) == {"a"}


@pytest.mark.parametrize(
    "gone",
    [(410, {"message": "too old"}), [event("ERROR", {"code": 410, "message": "too old"})]],
    ids=["status", "event"],
)
def test_gone_lists_anew_and_reports_only_differences(watching: Any, gone: Any) -> None:
    lists = [pods(10, pod("a", 1), pod("b", 2), pod("c", 3)), pods(20, pod("a", 1), pod("b", 15), pod("d", 16))]
    watcher, events = watching(Script(lists=lists, watches=[gone, FOREVER]))
    eventually(lambda: len(events) == 6)
    assert events[3:] == [("DELETED", "c"), ("MODIFIED", "b"), ("ADDED", "d")]
    assert names(watcher) == {"a", "b", "d"}


def test_same_name_with_new_uid_is_another_object(watching: Any) -> None:
    lists = [pods(10, pod("a", 1)), pods(20, pod("a", 15, uid="uid-2"))]
    watcher, events = watching(Script(lists=lists, watches=[(410, {}), FOREVER]))
    eventually(lambda: events == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")])
    assert set(watcher.snapshot()) == {"uid-2"}


def test_failed_list_keeps_what_is_known_and_ages(watching: Any) -> None:
    refused = (500, {"message": "etcd is away"})
    watcher, events = watching(Script(lists=[pods(10, pod("a", 1)), refused], watches=[(500, {})]))
    eventually(lambda: watcher.last_error == "500: etcd is away")
    assert names(watcher) == {"a"}
    assert events == [("ADDED", "a")]
    before_s = watcher.age_s()
    time.sleep(0.6)
    assert watcher.age_s() > before_s


def test_unsynced_is_not_empty(watching: Any) -> None:
    script = Script(lists=[(403, {"message": "pods is forbidden"}), pods(10)], watches=[FOREVER])
    watcher, _ = watching(script)
    eventually(lambda: watcher.last_error is not None)
    with pytest.raises(NotSyncedError, match="pods is forbidden"):
        watcher.snapshot()
    assert watcher.synced.wait(5)
    assert watcher.snapshot() == {}
    assert watcher.last_error is None


def test_silent_connection_is_given_up(watching: Any) -> None:
    lists = [pods(10, pod("a", 1)), pods(20, pod("b", 11))]
    watcher, _ = watching(Script(lists=lists, watches=[FOREVER]), silence_s=0.3)
    eventually(lambda: names(watcher) == {"b"} if watcher.synced.is_set() else False)


def test_watches_that_end_at_once_are_not_repeated_in_a_busy_loop(watching: Any) -> None:
    script = Script(lists=[pods(10)], watches=[[]])
    watching(script)
    time.sleep(1.0)
    assert 2 <= len(script.requests) <= 5


def test_malformed_event_leads_to_a_new_list(watching: Any) -> None:
    watcher, _ = watching(Script(lists=[pods(10), pods(20, pod("a", 15))], watches=[[{"type": "ADDED"}], FOREVER]))
    eventually(lambda: watcher.synced.is_set() and names(watcher) == {"a"})


def test_failing_handler_does_not_end_the_watch(serve: Any) -> None:
    seen: list[str] = []

    def handler(kind: str, item: Any) -> None:
        seen.append(kind)
        raise RuntimeError("handler bug")

    script = Script(lists=[pods(10, pod("a", 1))], watches=[[event("DELETED", pod("a", 11)), 30.0]])
    watcher = Watcher(serve(script), PODS, on_event=handler).start()
    eventually(lambda: seen == ["ADDED", "DELETED"])
    watcher.stop()


def test_stop_wakes_an_idle_watch(watching: Any) -> None:
    watcher, _ = watching(Script(lists=[pods(10)], watches=[FOREVER]))
    assert watcher.synced.wait(5)
    time.sleep(0.2)
    started_s = time.monotonic()
    watcher.stop()
    assert time.monotonic() - started_s < 1.0
    assert not [thread for thread in threading.enumerate() if thread.name == f"watch {PODS}"]


def test_unreachable_server_is_retried_and_named(connect: Any) -> None:
    watcher = Watcher(connect("http://127.0.0.1:9"), PODS).start()
    eventually(lambda: watcher.last_error is not None)
    watcher.stop()
    assert "127.0.0.1" in str(watcher.last_error)
