"""Surfaces on demand, simulated in a worker process so that the event loop never waits.

Equal questions share one answer; the mix counts as equal within its bin, so
that a service's surface changes only when its requests really do.
"""

import asyncio
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

from dynawatt.perfmodel.catalog import replica_models
from dynawatt.perfmodel.surface import Surface
from dynawatt.simulation.engine import EngineSettings
from dynawatt.simulation.surfaces import build_surface
from dynawatt.workload.mix import LengthMix
from dynawatt.workload.objectives import LatencyObjectives


@dataclass(frozen=True, slots=True)
class SurfaceKey:
    """Everything a surface depends on."""

    model: str
    gpu: str
    tensor_parallel: int
    max_num_batched_tokens: int
    max_num_seqs: int
    clocks_mhz: tuple[int, ...]
    objectives: LatencyObjectives
    mix_bin: tuple[int, int]


class SurfaceStore:
    """Builds each surface once; one worker, because there is always time and seldom a spare core."""

    def __init__(self) -> None:
        """The worker starts with the first question."""
        self._workers = self._new_worker()
        self._surfaces: dict[SurfaceKey, asyncio.Future[Surface]] = {}

    def get(self, key: SurfaceKey, mix: LengthMix) -> Surface | None:
        """The surface if it is ready; otherwise its building is started, and that of the next bin serves until then.

        Raises what the building raised.
        """
        future = self._surfaces.get(key)
        # One at a time: a service asks again at its next tick, and by then its mix may be another one.
        if future is None and all(other.done() for other in self._surfaces.values()):
            loop = asyncio.get_running_loop()
            future = self._surfaces[key] = loop.run_in_executor(self._workers, _build, key, mix)
        if future is None or not future.done():
            return self._neighbour(key)
        if future.exception() is not None:
            del self._surfaces[key]  # so that the next question tries again
            self._workers.shutdown(wait=False)
            self._workers = self._new_worker()
        return future.result()

    def _neighbour(self, key: SurfaceKey) -> Surface | None:
        """A surface for the same question about a mix in an adjacent bin."""
        for other, future in self._surfaces.items():
            apart = max(abs(a - b) for a, b in zip(other.mix_bin, key.mix_bin, strict=True))
            if apart == 1 and replace(other, mix_bin=key.mix_bin) == key and future.done() and not future.exception():
                return future.result()
        return None

    @staticmethod
    def _new_worker() -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(max_workers=1, mp_context=context, initializer=os.nice, initargs=(10,))

    def close(self) -> None:
        """Stop the worker without waiting for it."""
        self._workers.shutdown(wait=False, cancel_futures=True)


def _build(key: SurfaceKey, mix: LengthMix) -> Surface:
    models = replica_models(key.model, key.gpu, key.tensor_parallel)
    settings = EngineSettings(key.max_num_batched_tokens, key.max_num_seqs, models.kv_capacity_tokens)
    return build_surface(models, settings, mix, key.objectives, key.clocks_mhz)
