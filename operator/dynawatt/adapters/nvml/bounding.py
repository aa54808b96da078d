"""Calls that may hang, each within a bound: a thread of its own makes them in order, and whoever asked stops waiting.

A call into a hung driver cannot be ended, only left alone. What was given up
before it began is never made, and what is made of several steps ends before the
next one: a lock that comes minutes late would be worse than none. Only the step
that had begun may still take effect; until it returns, further calls fail at
once. The thread is a daemon, so a step that never returns keeps no process from
ending.
"""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from dynawatt.ports import GpuError, GpuTimeoutError

_T = TypeVar("_T")

_HANGS_FOR_S: Final = (3600, 600, 60, 10, 3, 1)
"""Told in these steps, so that a message stays the same for a while and logs can leave out repetitions."""


class BoundedThread:
    """Makes the calls of any number of threads one after the other.

    Args:
        name: Of its own thread.
        clock_s: Monotonic time in seconds, for messages.
    """

    def __init__(self, name: str, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock_s = clock_s
        self._step = name
        self._inbox: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._running: _Call | None = None
        self._closed = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    @property
    def hangs(self) -> bool:
        """Whether a call that was given up has not returned yet."""
        with self._lock:
            return self._running is not None and self._running.given_up

    def run(self, function: Callable[[], _T], *, within_s: float) -> _T:
        """Make a call and wait for its result.

        Raises:
            GpuTimeoutError: It did not return in time, or an earlier one has not returned yet.
            GpuError: The thread was closed.
            Exception: Whatever the call raises.
        """
        call = _Call(function)
        with self._lock:
            if self._closed:
                raise GpuError(f"{self._name} was closed")
            if self._running is not None and self._running.given_up:
                raise GpuTimeoutError(self._told())
            self._inbox.put(call)
        try:
            in_time = call.returned.acquire(timeout=within_s)
        except BaseException:  # KeyboardInterrupt, or what a signal handler raises
            self._give_up(call)
            raise
        if not in_time and (told := self._give_up(call)):
            raise GpuTimeoutError(f"{told}; given up after {within_s:g} s")
        if call.error is not None:
            raise call.error
        result: _T = call.result
        return result

    def step(self, name: str) -> None:
        """Say, within a call that runs here, what it does next. Raises GpuTimeoutError when nobody waits for it now."""
        with self._lock:
            if self._running is not None and self._running.given_up:
                raise GpuTimeoutError(f"{name} was not begun: it was given up before")
            self._step = name

    def close(self) -> None:
        """Take no more calls and end the thread when those that wait are made. Does not wait for it."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)

    def _give_up(self, call: "_Call") -> str:
        """Say what it waits for; empty when it has returned after all."""
        with self._lock:
            if call.returned.acquire(blocking=False):
                return ""
            call.given_up = True
            return self._told()

    def _told(self) -> str:
        if self._running is None:
            return f"{self._name}: a call has not begun"
        hangs_s = self._clock_s() - self._running.began_s
        step_s = next((step_s for step_s in _HANGS_FOR_S if hangs_s >= step_s), 0)
        return f"{self._step} has not returned " + (f"for more than {step_s} s" if step_s else "yet")

    def _work(self) -> None:
        while (call := self._inbox.get()) is not None:
            with self._lock:
                if call.given_up:
                    continue
                call.began_s = self._clock_s()
                self._running = call
                self._step = self._name
            try:
                call.result = call.function()
            except BaseException as error:  # whoever asked has to know
                call.error = error
            with self._lock:
                self._running = None
                call.returned.release()
            del call  # its result is not kept until the next one


class _Call:
    """A call: ``given_up`` and ``began_s`` belong to the thread's lock, the outcome to whoever has ``returned``."""

    __slots__ = ("began_s", "error", "function", "given_up", "result", "returned")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function: Final = function
        self.returned: Final = threading.Lock()
        self.returned.acquire()
        self.began_s = 0.0
        self.given_up = False
        self.result: Any = None
        self.error: BaseException | None = None
