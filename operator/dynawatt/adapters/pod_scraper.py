"""Reads the ``/metrics`` of a node's vLLM pods, all at once and within a fixed time, whatever they do.

Every pod keeps one connection, used by one thread of a small pool at a time. Who
has not answered when the time is over gets its connection cut, which ends the
thread that waits on it; an answer that is too long is not read to its end. So a
pod that hangs, drips or floods costs its own reading and nothing else.
"""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from dynawatt.adapters.vllm_page import pod_reading
from dynawatt.ports import PodKey, Scrape, ScrapeTarget

TIMEOUT_S: Final = 0.4
"""Leaves most of a second for setting clocks; a pod that needs longer is read as one that cannot be."""
_MAX_BYTES: Final = 2 * 2**20
"""vLLM's page has 50 kB per engine."""
_THREADS: Final = 16


class PodScraper:
    """The pods of one node; implements PodMetrics. Not for use by several threads at once.

    Args:
        timeout_s: For all pods together.
        clock_s: Monotonic time in seconds.
    """

    def __init__(self, *, timeout_s: float = TIMEOUT_S, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._endpoints: dict[PodKey, _Endpoint] = {}
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="scrape")

    def read(self, targets: Mapping[PodKey, ScrapeTarget]) -> dict[PodKey, Scrape]:
        """Scrape every target once; raises nothing."""
        self._forget_all_but(targets)
        running: dict[Future[Scrape], PodKey] = {}
        scrapes: dict[PodKey, Scrape] = {}
        for pod, target in targets.items():
            endpoint = self._endpoints.setdefault(pod, _Endpoint(target, self._timeout_s))
            if endpoint.busy.acquire(blocking=False):
                running[self._pool.submit(self._scrape, endpoint, target)] = pod
            else:
                scrapes[pod] = self._unanswered()
        done, late = wait(running, timeout=self._timeout_s)
        for future in late:
            endpoint = self._endpoints[running[future]]
            if future.cancel():
                endpoint.busy.release()
            endpoint.cut()
            scrapes[running[future]] = self._unanswered()
        return scrapes | {running[future]: future.result() for future in done}

    def close(self) -> None:
        """Close all connections and end the threads."""
        self._forget_all_but({})
        self._pool.shutdown(cancel_futures=True)

    def _forget_all_but(self, targets: Mapping[PodKey, ScrapeTarget]) -> None:
        for pod, endpoint in list(self._endpoints.items()):
            if pod not in targets or not endpoint.is_of(targets[pod]):
                endpoint.leave()
                del self._endpoints[pod]

    def _unanswered(self) -> Scrape:
        return Scrape(self._clock_s(), None, f"no answer within {self._timeout_s:g} s")

    def _scrape(self, endpoint: "_Endpoint", target: ScrapeTarget) -> Scrape:
        try:
            page = endpoint.fetch()
            now_s = self._clock_s()
            reading = pod_reading(page, tbt_s=target.tbt_s, ttft_s=target.ttft_s)
        except (OSError, http.client.HTTPException) as error:
            return Scrape(self._clock_s(), None, _told(error))
        finally:
            endpoint.busy.release()
        unknown = [] if reading.is_known else [name for name, value in reading._asdict().items() if value is None]
        problem = "" if reading.is_known else f"the page does not tell {', '.join(unknown) or 'possible numbers'}"
        return Scrape(now_s, reading, problem)


class _RefusedError(OSError):
    """The endpoint answered with what cannot be used."""


class _Endpoint:
    """A pod's ``/metrics``. ``busy`` is held by whoever uses it; only ``cut`` may be called by others."""

    def __init__(self, target: ScrapeTarget, timeout_s: float) -> None:
        self.busy: Final = threading.Lock()
        self._where = (target.address, target.port)
        self._connection = http.client.HTTPConnection(target.address, target.port, timeout=timeout_s)
        self._socket: socket.socket | None = None
        self._cut = False

    def is_of(self, target: ScrapeTarget) -> bool:
        """Whether this is the target's endpoint."""
        return self._where == (target.address, target.port)

    def fetch(self) -> bytes:
        """One page. Raises OSError and HTTPException."""
        self._cut = False
        reused = self._connection.sock is not None
        try:
            return self._get()
        except (ConnectionError, http.client.BadStatusLine):
            if not reused or self._cut:
                raise
            return self._get()  # the server had closed a connection that nobody used

    def cut(self) -> None:
        """End whatever waits on the connection."""
        self._cut = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Close the connection now, or leave that to who is using it."""
        self.cut()
        if self.busy.acquire(blocking=False):
            self._connection.close()
            self.busy.release()

    def _get(self) -> bytes:
        try:
            if self._connection.sock is None:
                self._connection.connect()
                # The connection lets go of it before the body is read when the server is to close it.
                self._socket = self._connection.sock
            if self._cut:
                raise _RefusedError("too late")
            self._connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
            response = self._connection.getresponse()
            if response.status != http.client.OK:
                raise _RefusedError(f"HTTP {response.status}")
            page = response.read(_MAX_BYTES + 1)
            if len(page) > _MAX_BYTES:
                raise _RefusedError(f"more than {_MAX_BYTES // 2**20} MiB")
            if response.length:  # of a body without chunks
                raise _RefusedError("the answer was cut short")
        except BaseException:
            self._connection.close()
            raise
        return page


def _told(error: Exception) -> str:
    """In words that stay the same while it lasts."""
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__
