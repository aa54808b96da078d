"""Finds better flags for the replicas of every service, when there is nothing more urgent to do.

What could be better is simulated in the worker process that builds the surfaces,
once for all services with equal replicas, SLO and mix. It is looked for again only
when the settings or the SLO are others, or the requests really are.
"""

import asyncio
import logging
from functools import partial
from typing import Final

from dynawatt.controller.engine_advice import bucket_advice
from dynawatt.controller.surfaces import SurfaceStore
from dynawatt.controller.tick import Tick
from dynawatt.simulation.advice.engine import EngineFindings, engine_findings
from dynawatt.simulation.surface_question import SurfaceQuestion

_ENOUGH_REQUESTS: Final = 1000
"""Finished within the window of the mix: fewer do not tell how long the longest ones are."""
_PAUSE_S: Final = 3600.0
"""After a failure."""
_MOST_ANSWERS: Final = 256
"""The ones not asked for longest are forgotten."""

_log = logging.getLogger(__name__)


class EngineAdvisor:
    """Keeps the advice in the status up to date; nobody ever waits for it."""

    def __init__(self, surfaces: SurfaceStore) -> None:
        """Its worker does the work."""
        self._surfaces = surfaces
        self._answers: dict[str, asyncio.Future[EngineFindings]] = {}

    def look(self, tick: Tick, *, may_search: bool) -> None:
        """Advise on the shape that most replicas have, after the load was observed.

        Without ``may_search`` only by what is known: the worker is needed for something else.
        """
        runtime, status = tick.runtime, tick.draft.status
        assert runtime.mix is not None
        assert runtime.observed is not None
        workload = max(tick.target.workloads, key=lambda each: each.replicas)
        question = runtime.book.question(runtime.models[workload.shape], tick.spec, runtime.mix)
        if runtime.observed.finished_requests >= _ENOUGH_REQUESTS and not runtime.advice.covers(question):
            found = self._findings(question, may_search=may_search)
            if found is not None:
                runtime.advice.take(question, found)
        recorded = status.engine_advice
        status.engine_advice = [
            *runtime.advice.advice(question, workload.settings, recorded),
            *bucket_advice(tick.spec.slo, runtime.observed, recorded),
        ]

    def _findings(self, question: SurfaceQuestion, *, may_search: bool) -> EngineFindings | None:
        """If they are there; otherwise they are looked for as soon as there is time."""
        fingerprint = question.fingerprint()
        future = self._answers.pop(fingerprint, None)
        if future is None:
            future = self._surfaces.run_aside(partial(engine_findings, question)) if may_search else None
            if future is None:
                return None
            for forgotten in list(self._answers)[: max(0, len(self._answers) + 1 - _MOST_ANSWERS)]:
                del self._answers[forgotten]
            future.add_done_callback(partial(self._note, fingerprint))
        self._answers[fingerprint] = future  # the last one asked for
        answered = future.done() and not future.cancelled() and future.exception() is None
        return future.result() if answered else None

    def _note(self, fingerprint: str, future: asyncio.Future[EngineFindings]) -> None:
        if future.cancelled():  # the operator is stopping
            return
        if (error := future.exception()) is None:
            _log.info("advice=%s found", fingerprint)
            return
        _log.error("advice=%s failed retry_in_s=%.0f error=%r", fingerprint, _PAUSE_S, error)
        asyncio.get_running_loop().call_later(_PAUSE_S, self._answers.pop, fingerprint, None)
