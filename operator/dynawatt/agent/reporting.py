"""A thread that writes the status of the node's GPUNode when it changed.

Writing has a thread of its own because the API may be slow or away, and clocks
must not wait for it. Only the newest view counts; those in between are dropped.
"""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol

from dynawatt.agent.describing import node_status
from dynawatt.agent.view import NodeView
from dynawatt.api.gpunode import GPUNodeStatus
from dynawatt.errors import OperationError

_FIRST_PAUSE_S: Final = 1.0
_MAX_PAUSE_S: Final = 30.0

_log = logging.getLogger(__name__)


class StatusStore(Protocol):
    """Where this node's GPUNode lives."""

    def load(self) -> GPUNodeStatus:
        """The status as it stands; creates the object when it is missing. Raises OperationError."""
        ...

    def save(self, status: GPUNodeStatus) -> None:
        """Replace the status. Raises OperationError."""
        ...


class StatusReporter:
    """Writes the status of the newest view whenever it differs from what is stored."""

    def __init__(self, store: StatusStore, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = store
        self._now = now
        self._stored: GPUNodeStatus | None = None
        self._newest: NodeView | None = None
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="gpunode", daemon=True)

    def start(self) -> None:
        """Begin to write what is submitted."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what was submitted last, if the API answers, and end."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def submit(self, view: NodeView) -> None:
        """Take a view; returns at once."""
        self._newest = view
        self._wake.set()

    def write(self, view: NodeView) -> bool:
        """Store the status of a view unless it is stored already; True when something was written.

        Raises OperationError. After a failure the stored status is read anew: the object may be gone or another.
        """
        stored, self._stored = self._stored, None
        if stored is None:
            stored = self._store.load()
        status = node_status(view, previous=stored, now=self._now())
        changed = status != stored
        if changed:
            self._store.save(status)
        self._stored = status
        return changed

    def _run(self) -> None:
        pause_s = 0.0
        stopping = False
        while not stopping:
            self._wake.wait()
            self._wake.clear()
            stopping = self._stopping.is_set()
            view = self._newest
            if view is None:
                continue
            try:
                self.write(view)
            except Exception as error:  # whatever cannot be written now must not keep later views from it
                pause_s = min(max(2 * pause_s, _FIRST_PAUSE_S), _MAX_PAUSE_S)
                if str(error) != self._problem:
                    _log.warning("gpunode error=%r", str(error), exc_info=not isinstance(error, OperationError))
                self._problem = str(error)
                self._stopping.wait(pause_s)
                self._wake.set()
            else:
                pause_s, self._problem = 0.0, ""
