"""Replays a trace in an open loop: each request is sent at its time, whatever became of the others."""

import asyncio
import contextlib
import json
import math
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dynawatt.errors import OperationError
from dynawatt.load.client import CompletionClient, Failure, completion_body
from dynawatt.load.endpoints import Endpoint, Endpoints, least_outstanding
from dynawatt.load.metering import Meter
from dynawatt.load.report import LoadProgress, LoadReport
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

_PROGRESS_INTERVAL_S: Final = 1.0
_ENDPOINT_POLL_S: Final = 0.05
_MAX_RETRIES: Final = 3
_RETRY_WITHIN_S: Final = 5.0  # of the first refusal
INTERRUPTED: Final = "interrupted"


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay."""

    model: str | None = None
    """Name of the model; None asks the first server."""
    seed: int = 0
    """Of the choice between servers with equally many requests."""
    max_outstanding: int = 20_000
    """With more requests that have not ended the replay is given up, as the servers do not keep up."""
    request_timeout_s: float = 600.0
    endpoint_wait_s: float = 30.0
    """How long a request waits while no server takes requests at all; the wait counts as part of its TTFT."""
    grace_s: float = 2.0
    """When stopped: how long requests may still run on."""


async def replay(
    trace: Trace,
    endpoints: Endpoints,
    objectives: LatencyObjectives | None = None,
    on_progress: Callable[[LoadProgress], None] | None = None,
    *,
    options: ReplayOptions = ReplayOptions(),
    stop: asyncio.Event | None = None,
) -> LoadReport:
    """Send every request of the trace and wait for the last one to end.

    Args:
        trace: What to send when; time 0 is now.
        endpoints: Where to; asked anew for every request.
        objectives: What to measure attainment against.
        on_progress: Called about once per second, on the event loop: must be quick.
        options: How.
        stop: Setting it ends the replay early, with a partial report.

    Raises:
        OperationError: No server tells the name of its model.
    """
    async with CompletionClient(request_timeout_s=options.request_timeout_s) as client:
        model = options.model or await _served_model(client, endpoints, options.endpoint_wait_s)
        run = _Replay(
            trace,
            endpoints,
            Meter(trace, objectives),
            client=client,
            model=model,
            options=options,
            stop=stop or asyncio.Event(),
        )
        return await run.run(on_progress)


async def _served_model(client: CompletionClient, endpoints: Endpoints, wait_s: float) -> str:
    if not await _some(endpoints, wait_s):
        raise OperationError(
            f"no pod became Ready within {wait_s:g} s, so none tells the name of its model; "
            "see: kubectl get pods, or give --model NAME"
        )
    return await client.served_model(endpoints.current()[0])


async def _some(endpoints: Endpoints, wait_s: float) -> bool:
    """Whether there are servers, if need be after waiting for one."""
    give_up_s = asyncio.get_running_loop().time() + wait_s
    while not endpoints.current():
        if asyncio.get_running_loop().time() >= give_up_s:
            return False
        await asyncio.sleep(_ENDPOINT_POLL_S)
    return True


class _Replay:
    def __init__(
        self,
        trace: Trace,
        endpoints: Endpoints,
        meter: Meter,
        *,
        client: CompletionClient,
        model: str,
        options: ReplayOptions,
        stop: asyncio.Event,
    ) -> None:
        self._trace = trace
        self._endpoints = endpoints
        self._client = client
        self._model_json = json.dumps(model).encode()
        self._options = options
        self._stop = stop
        self._stopped: str | None = None
        self._meter = meter
        self._rng = random.Random(options.seed)
        self._first_prompt = secrets.randbelow(2**30)  # not the prompts of the last replay, which may be cached
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()

    async def run(self, on_progress: Callable[[LoadProgress], None] | None) -> LoadReport:
        ticker = asyncio.create_task(self._tick(on_progress))
        try:
            await self._send_all()
            await self._wait_for_ends()
        finally:
            ticker.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.wait({ticker, *self._tasks})
        if error := self._error or (None if ticker.cancelled() else ticker.exception()):
            raise error
        return self._meter.report(self._now_s(), self._stopped)

    def _now_s(self) -> float:
        return self._loop.time() - self._start_s

    async def _tick(self, on_progress: Callable[[LoadProgress], None] | None) -> None:
        for second in range(1, 2**31):
            await asyncio.sleep(second * _PROGRESS_INTERVAL_S - self._now_s())
            self._meter.close_slot(self._now_s())
            if on_progress is not None:
                on_progress(self._meter.progress(self._now_s()))

    async def _send_all(self) -> None:
        requests = zip(
            self._trace.arrival_s.tolist(),
            self._trace.input_tokens.tolist(),
            self._trace.output_tokens.tolist(),
            strict=True,
        )
        for index, (due_s, input_tokens, output_tokens) in enumerate(requests):
            if (wait_s := due_s - self._now_s()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait_s)
            elif index % 100 == 0:
                await asyncio.sleep(0)  # a burst must not keep the answers waiting
            if self._stop.is_set():
                self._stopped = INTERRUPTED
                return
            if len(self._tasks) >= self._options.max_outstanding:
                self._stopped = (
                    f"{len(self._tasks)} requests are outstanding after {self._now_s():.0f} s: the servers do "
                    "not keep up; lower --rate-scale, add replicas or raise --max-outstanding"
                )
                return
            task = asyncio.create_task(self._send(index, due_s, input_tokens, output_tokens))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
            self._stop.set()

    async def _wait_for_ends(self) -> None:
        """Until the last request has ended; once stopped, only for the grace time."""
        if self._tasks and self._stopped is None:
            stopping = asyncio.create_task(self._stop.wait())
            ending = asyncio.create_task(asyncio.wait(self._tasks))
            await asyncio.wait({stopping, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                self._stopped = INTERRUPTED
            stopping.cancel()
            ending.cancel()
        if self._tasks and self._stopped is not None:
            await asyncio.wait(self._tasks, timeout=self._options.grace_s)

    async def _send(self, index: int, due_s: float, input_tokens: int, output_tokens: int) -> None:
        meter = self._meter
        meter.sent(index, self._now_s() - due_s)
        scheduled_s = self._start_s + due_s
        last_s: float | None = None

        def on_tokens(now_s: float, events: int) -> None:
            nonlocal last_s
            if last_s is None:
                meter.first_token(index, now_s - scheduled_s)
            else:
                meter.gap(now_s - last_s)
            if events > 1:
                meter.no_gaps(events - 1)
            last_s = now_s

        body = completion_body(self._model_json, self._first_prompt + index, input_tokens, output_tokens)
        failure, tokens = await self._answer(body, output_tokens, on_tokens)
        if failure is None:
            meter.succeeded(index, tokens)
        else:
            meter.failed(index, failure.reason, failure.example, tokens)

    async def _answer(
        self, body: bytes, wanted_tokens: int, on_tokens: Callable[[float, int], None]
    ) -> tuple[Failure | None, int]:
        """Ask servers until one takes the request, each only once: the failure, if any, and the tokens generated."""
        if not await _some(self._endpoints, self._options.endpoint_wait_s):
            example = f"no pod was Ready for {self._options.endpoint_wait_s:g} s from when the request was due"
            return Failure("no ready pod", example), 0
        failure: Failure | None = None
        refusing: list[Endpoint] = []
        retry_until_s = math.inf
        while True:
            others = [endpoint for endpoint in self._endpoints.current() if endpoint not in refusing]
            endpoint = least_outstanding(others, self._rng)
            if endpoint is None or len(refusing) > _MAX_RETRIES or self._now_s() > retry_until_s:
                return failure, 0
            if refusing:
                self._meter.retried()
            endpoint.outstanding += 1
            try:
                failure, tokens = await self._client.complete(endpoint, body, wanted_tokens, on_tokens)
            finally:
                endpoint.outstanding -= 1
            if failure is None or not failure.refused:
                return failure, tokens
            refusing.append(endpoint)
            retry_until_s = min(retry_until_s, self._now_s() + _RETRY_WITHIN_S)
