"""Surfaces for the command line: kept on disk, and the missing ones built in worker processes.

The rows of a surface, one per clock, do not depend on each other, so that even a
single surface keeps all workers busy.
"""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dynawatt.adapters.surface_cache import SurfaceCache
from dynawatt.errors import OperationError
from dynawatt.perfmodel.surface import Surface
from dynawatt.simulation.surface_question import SurfaceQuestion
from dynawatt.simulation.surfaces import build_surface

DEFAULT_WORKERS: Final = 2

Progress = Callable[[int, int], None]
"""Called with how many clocks of the missing surfaces are simulated, and of how many."""


def _no_progress(done: int, total: int) -> None:
    del done, total


class CachedSurfaces:
    """A SurfaceSource. A context manager, which ends its workers.

    The worker processes import the main module: a script must guard its own work by ``__name__ == "__main__"``.
    """

    def __init__(
        self, directory: Path | None, *, workers: int = DEFAULT_WORKERS, progress: Progress = _no_progress
    ) -> None:
        """Surfaces are kept in a directory, unless it is None; workers start with the first that is not there.

        At most one worker per processor is started; with 0 the calling process does the work.
        """
        self._cache = None if directory is None else SurfaceCache(directory)
        self._workers = min(workers, os.cpu_count() or 1)
        self._progress = progress
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self.close()

    def close(self) -> None:
        """End the workers, once they are done with the clocks they are at; new ones start when they are needed."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def get_all(self, questions: Sequence[SurfaceQuestion]) -> list[Surface]:
        """One for each question, in order. Equal questions share one.

        Raises InvalidInputError for what no surface can be made of, and OperationError when a worker dies.
        """
        prints = [question.fingerprint() for question in questions]
        found: dict[str, Surface] = {}
        missing: dict[str, SurfaceQuestion] = {}
        for mark, question in zip(prints, questions, strict=True):
            if mark in found or mark in missing:
                continue
            known = self._cache.load(mark) if self._cache else None
            if known is None:
                missing[mark] = question
            else:
                found[mark] = known
        for mark, surface in self._build(missing):
            found[mark] = surface
            if self._cache:
                # A disk that is full or read-only costs time at the next run, not this result.
                with contextlib.suppress(OSError):
                    self._cache.store(mark, surface)
        return [found[mark] for mark in prints]

    def _build(self, missing: Mapping[str, SurfaceQuestion]) -> Iterator[tuple[str, Surface]]:
        """Each as soon as its last clock is simulated."""
        pieces = [_Piece(mark, each, clock) for mark, each in missing.items() for clock in each.clocks_mhz]
        rows: dict[str, list[Surface]] = {mark: [] for mark in missing}
        for done, (piece, row) in enumerate(self._rows(pieces), start=1):
            rows[piece.mark].append(row)
            self._progress(done, len(pieces))
            if len(rows[piece.mark]) == len(piece.question.clocks_mhz):
                yield piece.mark, _joined(rows.pop(piece.mark))

    def _rows(self, pieces: Sequence["_Piece"]) -> Iterator[tuple["_Piece", Surface]]:
        if not pieces:
            return
        self._progress(0, len(pieces))
        if self._workers < 1:
            yield from ((piece, piece.build()) for piece in pieces)
            return
        pool = self._pool = self._pool or _new_pool(self._workers)
        futures: dict[Future[Surface], _Piece] = {}
        try:
            futures = {pool.submit(piece.build): piece for piece in pieces}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            self._pool = None
            raise OperationError(
                "a worker process that builds latency models died: is there enough memory? Try once more"
            ) from error
        finally:
            for future in futures:
                future.cancel()


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """One clock of a surface."""

    mark: str
    question: SurfaceQuestion
    clock_mhz: int

    def build(self) -> Surface:
        return build_surface(replace(self.question, clocks_mhz=(self.clock_mhz,)))


def _joined(rows: Sequence[Surface]) -> Surface:
    """One surface of those of single clocks, ascending."""
    ordered = sorted(rows, key=lambda surface: surface.clocks_mhz)
    sizes = ordered[0].shared_points
    return replace(
        ordered[0],
        points=dict(chain.from_iterable(row.points.items() for row in ordered)),
        shared_points={
            size: dict(chain.from_iterable(row.shared_points[size].items() for row in ordered)) for size in sizes
        },
    )


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # Spawned: a fork of a process with threads may hang. Ctrl-C is for the parent, which ends the workers.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, signal.signal, (signal.SIGINT, signal.SIG_IGN))
