"""A live copy of one Kubernetes collection, kept by a thread of its own.

The thread lists, then watches from the list's version on, and goes on for as
long as it is wanted. What ends a watch decides what follows:

- the server's own time limit: watch again from the last version seen;
- 410 Gone, an ERROR event, an API that refuses or cannot be reached: list anew,
  after a pause that doubles up to a bound;
- silence: a watch whose connection died unseen delivers nothing for ever, so
  reading is given up after ``silence_s`` and the collection is listed anew.

A failed list changes nothing in the copy: "could not ask" is never "there is
none". Readers that must not act on old data look at ``age_s``.
"""

import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, TypeAlias

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    KubernetesObject,
    describe_error,
    open_response,
    request_json,
)

EventType: TypeAlias = Literal["ADDED", "MODIFIED", "DELETED"]
EventHandler: TypeAlias = Callable[[EventType, KubernetesObject], None]
Projection: TypeAlias = Callable[[KubernetesObject], KubernetesObject | None]

_FIRST_PAUSE_S: Final = 0.5

_log = logging.getLogger(__name__)


class NotSyncedError(Exception):
    """The collection has never been listed yet, so nothing is known about it."""


class _WatchExpiredError(Exception):
    """The version to watch from is no longer kept by the server."""


class Watcher:
    """Lists and watches one collection; see the module for what it survives.

    Args:
        api: The client; may be shared between watchers.
        path: URL path of the collection, from ``client.resource_path``.
        label_selector: Server-side selection by labels.
        field_selector: Server-side selection by fields.
        keep: What of an object stays in the copy, None for nothing: large collections are mostly of no interest. Must
            leave its uid and resourceVersion.
        on_event: Called in the watcher's thread for every change, after the copy was updated; must be quick. A
            repeated list reports only what differs.
        server_timeout_s: How long the server lets one watch live, in s.
        silence_s: Without a byte for this long, in s, the connection counts as dead. The server sends a bookmark about
            once a minute, so less than that makes sense only for collections that change more often.
        max_pause_s: Upper bound of the pause after repeated failures, in s.
    """

    def __init__(
        self,
        api: ApiClient,
        path: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        keep: Projection | None = None,
        on_event: EventHandler | None = None,
        server_timeout_s: float = 240.0,
        silence_s: float = 90.0,
        max_pause_s: float = 10.0,
    ) -> None:
        self._api = api
        self.path: Final = path
        """URL path of the collection."""
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._query = {key: value for key, value in selectors.items() if value}
        self._keep = keep or (lambda item: item)
        self._on_event = on_event
        self._server_timeout_s = server_timeout_s
        self._silence_s = silence_s
        self._max_pause_s = max_pause_s
        self._pause_s = 0.0
        self._lock = threading.Lock()
        self._objects: dict[str, KubernetesObject] = {}
        self._version: str | None = None
        self._stopping = threading.Event()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)
        self._contact_s = time.monotonic()
        self.synced = threading.Event()
        """Set once the collection was listed; stays set."""
        self.revision = 0
        """Grows with every change of the copy."""
        self.last_error: str | None = None
        """Why the API could not be read, while it cannot."""

    def start(self) -> "Watcher":
        """Begin; returns at once. Wait on ``synced`` for the first list."""
        self._thread.start()
        return self

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the watch and its thread, waiting at most ``timeout_s``."""
        self._stopping.set()
        self._hang_up()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def snapshot(self) -> dict[str, KubernetesObject]:
        """All objects now, by uid. They are shared: read them, change nothing. Raises NotSyncedError."""
        if not self.synced.is_set():
            raise NotSyncedError(f"{self.path}: not listed yet: {self.last_error or 'no answer so far'}")
        with self._lock:
            return dict(self._objects)

    def age_s(self) -> float:
        """Seconds since the API last answered: how old the copy may be. Counts from the creation before the first."""
        return time.monotonic() - self._contact_s

    def _run(self) -> None:
        while not self._stopping.wait(self._pause_s * random.uniform(0.75, 1.0)):
            started_s = time.monotonic()
            try:
                if self._version is None:
                    self._list()
                self._watch(self._version)
                # A server that ends its watches at once must not be asked in a busy loop.
                self._pause_s = 0.0 if time.monotonic() - started_s > 1.0 else _FIRST_PAUSE_S
            except _WatchExpiredError:
                self._version = None
                self._pause_s = _FIRST_PAUSE_S
            except (*API_ERRORS, ValueError, KeyError, TypeError) as error:
                if self._stopping.is_set():
                    return
                self._version = None
                self._note_failure(error)
                self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), self._max_pause_s)

    def _list(self) -> None:
        answer = request_json(self._api, "GET", self.path, query=self._query)
        # Items of a list carry neither kind nor apiVersion; those of a watch do.
        identity = {"apiVersion": answer["apiVersion"], "kind": answer["kind"].removesuffix("List")}
        kept = (self._keep({**identity, **item}) for item in answer["items"] or [])
        found = {item["metadata"]["uid"]: item for item in kept if item is not None}
        with self._lock:
            before, self._objects = self._objects, found
            self.revision += 1
        self._touch()
        self.synced.set()
        for uid in before.keys() - found.keys():
            self._emit("DELETED", before[uid])
        for uid, item in found.items():
            if uid not in before:
                self._emit("ADDED", item)
            elif before[uid]["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._emit("MODIFIED", item)
        self._version = answer["metadata"]["resourceVersion"]

    def _watch(self, version: str | None) -> None:
        """Apply the events of one watch until it ends."""
        query = {
            **self._query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version or "",
            "timeoutSeconds": str(max(1, round(self._server_timeout_s))),
        }
        try:
            response = open_response(self._api, "GET", self.path, query=query, read_s=self._silence_s)
        except ApiException as error:
            if error.status == 410:
                raise _WatchExpiredError from error
            raise
        self._response = response
        try:
            if self._stopping.is_set():
                return
            self._touch()
            self._pause_s = 0.0
            for line in _lines(response):
                self._touch()
                self._apply(json.loads(line))
        except urllib3.exceptions.ReadTimeoutError as error:
            _log.debug("watch path=%s silent_s=%.0f action=relist", self.path, self._silence_s)
            raise _WatchExpiredError from error
        finally:
            self._response = None
            response.close()

    def _apply(self, event: dict[str, Any]) -> None:
        kind, item = event["type"], event["object"]
        if kind == "ERROR":
            if item.get("code") == 410:
                raise _WatchExpiredError
            raise ApiException(status=item.get("code"), reason=item.get("message"))
        metadata = item["metadata"]
        self._version = metadata["resourceVersion"]
        if kind in {"ADDED", "MODIFIED", "DELETED"}:
            kept = None if kind == "DELETED" else self._keep(item)
            with self._lock:
                known = self._objects.pop(metadata["uid"], None)
                if kept is not None:
                    self._objects[metadata["uid"]] = kept
                elif known is None and kind != "DELETED":
                    return  # of no interest, before and now
                self.revision += 1
            self._emit(kind, kept or known or item)

    def _emit(self, kind: EventType, item: KubernetesObject) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(kind, item)
        except Exception:
            _log.exception("watch path=%s event=%s handler failed", self.path, kind)

    def _touch(self) -> None:
        self._contact_s = time.monotonic()
        if self.last_error is not None:
            _log.info("watch path=%s recovered", self.path)
            self.last_error = None

    def _note_failure(self, error: BaseException) -> None:
        reason = describe_error(error)
        if reason != self.last_error:
            _log.warning("watch path=%s error=%r", self.path, reason)
        self.last_error = reason

    def _hang_up(self) -> None:
        """Wake a thread that waits for the next event: only shutting the socket down does, closing would block."""
        response = self._response
        sock = getattr(getattr(response, "connection", None), "sock", None)
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                _log.debug("watch path=%s was already disconnected", self.path)


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The response's lines as they arrive."""
    rest = b""
    for chunk in response.stream(amt=None):
        *complete, rest = (rest + chunk).split(b"\n")
        yield from (line for line in complete if line.strip())
