"""Drives a ReplicaEngine in real time: the tokens of an iteration appear when the iteration ends.

Iterations follow one another on the engine's own timeline: the next one begins
when the last one was due, not when the event loop came round to it, so that
jitter does not add up. Only after a stall longer than ``MAX_CATCH_UP_S`` does the
timeline jump to now, or tokens would come in a burst. Metrics and energy use
the engine's timeline.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from dynawatt.sandbox.nodesim.gpus import SimulatedGpu
from dynawatt.sandbox.nodesim.vllm_metrics import FinishedRequest, VllmMetrics
from dynawatt.simulation.engine import EngineRequest, Iteration, ReplicaEngine

MAX_CATCH_UP_S: Final = 0.1

FinishReason: TypeAlias = Literal["length", "abort"]


@dataclass(slots=True, eq=False)
class Job:
    """A request in the engine and whom to tell of its tokens."""

    request: EngineRequest
    on_token: Callable[[], object]
    """Called for every token but the last; may be exchanged in between."""
    ended: "asyncio.Future[FinishReason]"
    """Resolves with the last token ("length"), or instead of it ("abort")."""
    emitted_tokens: int = 0
    first_token_s: float = 0.0
    last_token_s: float = 0.0


class Replica:
    """One engine on its GPUs. All calls belong on the event loop's thread."""

    def __init__(self, engine: ReplicaEngine, gpus: Sequence[SimulatedGpu], metrics: VllmMetrics) -> None:
        self._engine = engine
        self._gpus = gpus
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[EngineRequest, Job] = {}
        self._iteration: Iteration | None = None
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._drained = asyncio.Event()
        self._drained.set()
        for gpu in gpus:
            gpu.hold(self._loop.time(), engine.models.loaded_idle_w)

    @property
    def jobs(self) -> int:
        """Requests that have not ended."""
        return len(self._jobs)

    async def drained(self) -> None:
        """Wait until every request has ended."""
        await self._drained.wait()

    def submit(self, job: Job) -> None:
        """Queue a request; it starts with the next iteration. Raises ValueError when it can never run."""
        if self._stopped:
            job.ended.set_result("abort")
            return
        self._engine.submit(job.request)
        self._jobs[job.request] = job
        self._drained.clear()
        if self._iteration is None:
            self._begin(self._loop.time())

    def abort(self, job: Job) -> None:
        """End a request with reason "abort"; harmless when it has ended already."""
        if self._jobs.pop(job.request, None) is None:
            return
        self._engine.abort(job.request)
        self._metrics.count("vllm:request_success", 1, "abort")
        self._end(job, "abort")

    def abort_all(self) -> None:
        """End every request with reason "abort"."""
        for job in list(self._jobs.values()):
            self.abort(job)

    def stop(self) -> None:
        """End everything at once, and from now on every request as it comes."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._iteration = None
        self.abort_all()
        self._set_power(self._loop.time(), None)

    def update_gauges(self) -> None:
        """Bring the gauges up to date, and the counter that the engine keeps."""
        engine, metrics = self._engine, self._metrics
        metrics.set("vllm:num_requests_running", engine.running_count)
        metrics.set("vllm:num_requests_waiting", engine.waiting_count)
        metrics.set("vllm:num_requests_waiting_by_reason", engine.waiting_count, "capacity")
        metrics.set("vllm:kv_cache_usage_perc", engine.kv_usage)
        metrics.set("vllm:num_preemptions", engine.preemptions_total)

    def _begin(self, now_s: float) -> None:
        clock_mhz = min(gpu.clock_mhz(now_s) for gpu in self._gpus)
        self._iteration = self._engine.start_iteration(now_s, clock_mhz)
        if self._iteration is None:
            self._set_power(now_s, None)
            return
        self._set_power(now_s, self._iteration.power_w)
        self._due_s = now_s + self._iteration.duration_s
        self._timer = self._loop.call_at(self._due_s, self._finish)

    def _finish(self) -> None:
        iteration, now_s = self._iteration, self._due_s
        if iteration is None:
            return
        emitting = iteration.emitting
        finished = set(self._engine.finish_iteration(iteration))
        self._deliver(emitting, finished, iteration.batch.prefill_tokens, now_s)
        late_s = self._loop.time() - now_s
        self._begin(now_s if late_s < MAX_CATCH_UP_S else now_s + late_s)

    def _deliver(
        self, emitting: Sequence[EngineRequest], finished: set[EngineRequest], prefill_tokens: int, now_s: float
    ) -> None:
        tokens = 0
        earlier: dict[float, int] = {}  # time of the token before -> requests; one entry holds nearly all of them
        for request in emitting:
            job = self._jobs.get(request)
            if job is None:
                continue
            tokens += 1
            if job.emitted_tokens:
                earlier[job.last_token_s] = earlier.get(job.last_token_s, 0) + 1
            else:
                self._record_first_token(job, now_s)
            job.emitted_tokens += 1
            job.last_token_s = now_s
            if request in finished:
                del self._jobs[request]
                self._record_finished(job)
                self._end(job, "length")
            else:
                job.on_token()
        for last_s, requests in earlier.items():
            self._metrics.observe("vllm:inter_token_latency_seconds", now_s - last_s, requests)
        self._metrics.count("vllm:generation_tokens", tokens)
        self._metrics.observe("vllm:iteration_tokens_total", tokens + prefill_tokens)

    def _record_first_token(self, job: Job, now_s: float) -> None:
        job.first_token_s = now_s
        input_tokens = job.request.input_tokens
        self._metrics.observe("vllm:time_to_first_token_seconds", now_s - job.request.arrival_s)
        self._metrics.count("vllm:prompt_tokens", input_tokens)
        self._metrics.count("vllm:prompt_tokens_by_source", input_tokens, "local_compute")

    def _record_finished(self, job: Job) -> None:
        request = job.request
        self._metrics.record_finished(
            FinishedRequest(
                input_tokens=request.input_tokens,
                output_tokens=job.emitted_tokens,
                max_tokens=request.output_tokens,
                preemptions=request.preemptions,
                arrival_s=request.arrival_s,
                scheduled_s=request.arrival_s if request.scheduled_s is None else request.scheduled_s,
                first_token_s=job.first_token_s,
                last_token_s=job.last_token_s,
            )
        )

    def _end(self, job: Job, reason: FinishReason) -> None:
        if not job.ended.done():
            job.ended.set_result(reason)
        if not self._jobs:
            self._drained.set()

    def _set_power(self, now_s: float, power_w: float | None) -> None:
        for gpu in self._gpus:
            gpu.run(now_s, power_w)
