"""Surfaces on demand, simulated in a worker process so that the event loop never waits.

Equal questions share one answer, in memory and on disk; the mix counts as equal
within its bin, so that a service's surface changes only when its requests really
do. A question whose answer fails is asked again only after a while, which doubles
with every failure.
"""

import asyncio
import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from dynawatt.adapters.surface_cache import SurfaceCache
from dynawatt.perfmodel.surface import Surface
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface

_FIRST_PAUSE_S: Final = 10.0
_LONGEST_PAUSE_S: Final = 600.0
_MOST_ANSWERS: Final = 64
"""A few MB each; the ones not asked for longest are forgotten, but stay on disk."""
_QUIET_S: Final = 30.0
"""Several ticks long: a service that waits for a surface asks for it in each."""

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Answer:
    """A question under way or answered."""

    family: str
    mix_bin: tuple[int, int]
    future: asyncio.Future[Surface]
    failures: int = 0
    retry_s: float = 0.0
    """When to try again, after a failure."""

    @property
    def surface(self) -> Surface | None:
        """What was answered; None while there is nothing or if it failed."""
        return self.future.result() if self.future.done() and self.future.exception() is None else None


class SurfaceStore:
    """Builds each surface once; one worker, because there is always time and seldom a spare core."""

    def __init__(self, cache: SurfaceCache | None = None, now_s: Callable[[], float] = time.monotonic) -> None:
        """The worker starts with the first question."""
        self._cache = cache
        self._now_s = now_s
        self._workers = self._new_worker()
        self._answers: dict[str, _Answer] = {}
        self._asked_s = now_s()
        """When a surface was last asked for that was not there."""
        self._aside: asyncio.Future[Any] | None = None
        self._closed = False

    def get(self, question: SurfaceQuestion) -> Surface | None:
        """The surface if it is ready; otherwise its building is started, and that of the next bin serves until then.

        After a failure, raises what the building raised until it is tried again.
        """
        fingerprint = question.fingerprint()
        answer = self._answers.get(fingerprint)
        if answer is None or 0 < answer.retry_s <= self._now_s():
            answer = self._ask(question, fingerprint, failures=answer.failures if answer else 0)
        if answer is None:
            return self._neighbour(question)
        self._answers[fingerprint] = self._answers.pop(fingerprint)  # the last one asked for
        if not answer.future.done():
            return self._neighbour(question)
        return answer.future.result()

    def run_aside(self, work: Callable[[], _T]) -> asyncio.Future[_T] | None:
        """Let the worker do something that nobody waits for; None when it has no time for that now.

        It has when no surface was missing lately, and does one thing at a time. A surface that is asked for meanwhile
        has to wait, so it must be done within seconds; and it must be picklable.
        """
        under_way = any(not answer.future.done() for answer in self._answers.values())
        if under_way or (self._aside is not None and not self._aside.done()):
            return None
        if self._closed or self._now_s() - self._asked_s < _QUIET_S:
            return None
        future = asyncio.get_running_loop().run_in_executor(self._workers, work)
        future.add_done_callback(self._replace_dead_worker)
        self._aside = future
        return future

    def close(self) -> None:
        """Stop the worker without waiting for it."""
        self._closed = True
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _ask(self, question: SurfaceQuestion, fingerprint: str, failures: int) -> _Answer | None:
        self._asked_s = self._now_s()
        # One at a time: a service asks again at its next tick, and by then its mix may be another one.
        if not all(other.future.done() for other in self._answers.values()):
            return None
        for forgotten in list(self._answers)[: max(0, len(self._answers) + 1 - _MOST_ANSWERS)]:
            del self._answers[forgotten]
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._workers, _load_or_build, question, fingerprint, self._cache)
        answer = self._answers[fingerprint] = _Answer(question.family(), question.mix_bin, future, failures)
        future.add_done_callback(lambda _: self._note_failure(fingerprint, answer))
        return answer

    def _note_failure(self, fingerprint: str, answer: _Answer) -> None:
        """If it failed, let it be tried again later, by a new worker: the old one may be dead."""
        if self._closed or answer.surface is not None:
            return
        pause_s = min(_FIRST_PAUSE_S * 2.0 ** min(answer.failures, 10), _LONGEST_PAUSE_S)
        answer.failures += 1
        answer.retry_s = self._now_s() + pause_s
        message = "surface=%s failed failures=%d retry_in_s=%.0f"
        _log.error(message, fingerprint, answer.failures, pause_s, exc_info=answer.future.exception())
        self._replace_worker()

    def _replace_dead_worker(self, future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool) and not self._closed:
            self._replace_worker()

    def _replace_worker(self) -> None:
        self._workers.shutdown(wait=False)
        self._workers = self._new_worker()

    def _neighbour(self, question: SurfaceQuestion) -> Surface | None:
        """A surface for the same question about a mix in an adjacent bin, or in the same one with another tail."""
        family = question.family()
        for other in self._answers.values():
            apart = max(abs(a - b) for a, b in zip(other.mix_bin, question.mix_bin, strict=True))
            if apart <= 1 and other.family == family and other.surface is not None:
                return other.surface
        return None

    @staticmethod
    def _new_worker() -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=os.nice, initargs=(10,))


def _load_or_build(question: SurfaceQuestion, fingerprint: str, cache: SurfaceCache | None) -> Surface:
    """Runs in the worker. A disk that fails costs time, not the surface."""
    known = cache.load(fingerprint) if cache else None
    if known is not None:
        return known
    surface = build_surface(question)
    if cache:
        try:
            cache.store(fingerprint, surface)
        except OSError as error:
            _log.warning("surface=%s not kept: %s", fingerprint, error)
    return surface
