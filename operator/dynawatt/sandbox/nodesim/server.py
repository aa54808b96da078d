"""The HTTP server of one simulated vLLM pod, on the pod's own address.

Token events bypass aiohttp's response writer: what a request sends per token is
framed once and handed straight to the transport when an iteration ends.
"""

import asyncio
import contextlib
import functools
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import HttpVersion11, web
from aiohttp.typedefs import Handler
from prometheus_client import REGISTRY, generate_latest

from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.sandbox.nodesim.http_metrics import HttpMetrics
from dynawatt.sandbox.nodesim.openai import ApiError, Generation, Kind, Responder, http_chunk, parse_generation
from dynawatt.sandbox.nodesim.replica import FinishReason, Job, Replica
from dynawatt.sandbox.nodesim.vllm_metrics import VllmMetrics
from dynawatt.simulation.engine import EngineRequest

VLLM_VERSION: Final = "0.32.0"
_MAX_BODY_BYTES: Final = 32 * 2**20
# Clients and this server learn separately that a pod is Ready: a real pod is not Ready before its server answers.
_READY_LAG_S: Final = 1.0
_CLOSE_TIMEOUT_S: Final = 1.0  # for clients to take their last bytes
_SSE_HEADERS: Final = {"Content-Type": "text/event-stream; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Served:
    """A replica that can serve, with everything its server must know of it."""

    settings: VllmSettings
    max_model_len: int
    replica: Replica
    metrics: VllmMetrics
    http_metrics: HttpMetrics


class VllmServer:
    """Serves one pod: refuses while it loads, serves when told so, drains or aborts when it ends."""

    def __init__(self, served: Served | str) -> None:
        """``served`` is the replica, or the reason why there is none: then every request is refused with it."""
        self._served = served if isinstance(served, Served) else None
        self._failure = served if isinstance(served, str) else None
        self._state: Literal["loading", "serving", "ending"] = "loading"
        self._loaded = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def listening(self) -> bool:
        """Whether connections are accepted."""
        return self._runner is not None and bool(self._runner.sites)

    async def listen(self, host: str, port: int) -> None:
        """Accept connections on one address only. Raises OSError."""
        if self._runner is None:
            self._runner = web.AppRunner(
                self.application(), access_log=None, handler_cancellation=True, shutdown_timeout=_CLOSE_TIMEOUT_S
            )
            await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        if self._served is not None:
            app.middlewares.append(self._served.http_metrics.middleware)
        app.middlewares.append(_errors)
        app.router.add_post("/v1/completions", functools.partial(self._generate, "completion"))
        app.router.add_post("/v1/chat/completions", functools.partial(self._generate, "chat"))
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/load", self._load)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics)
        return app

    def serve(self) -> None:
        """The model is loaded: take requests."""
        if self._state == "loading":
            self._state = "serving"
            self._loaded.set()

    async def end(self, shutdown_timeout_s: float) -> None:
        """What vLLM does on SIGTERM: refuse new requests, let those in flight run on for a while, abort the rest."""
        self._state = "ending"
        if self._served is not None:
            replica = self._served.replica
            if shutdown_timeout_s > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(replica.drained(), shutdown_timeout_s)
            replica.abort_all()
        await self._stop()

    async def kill(self) -> None:
        """What SIGKILL does: connections break."""
        self._state = "ending"
        if self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        await self._stop()

    async def _stop(self) -> None:
        if self._served is not None:
            self._served.replica.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def _ready(self) -> Served:
        if self._failure is not None or self._served is None:
            raise ApiError(503, f"the engine did not start: {self._failure}")
        if self._state == "loading":
            raise ApiError(503, "the model is loading")
        return self._served

    async def _generate(self, kind: Kind, request: web.Request) -> web.StreamResponse:
        if self._state == "loading" and self._served is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._loaded.wait(), _READY_LAG_S)
        served = self._ready()
        if self._state == "ending":
            raise ApiError(503, "the server is shutting down")
        generation = parse_generation(
            kind, await request.read(), models=served.settings.served_model_names, max_model_len=served.max_model_len
        )
        if generation.stream:
            return await self._stream(served, generation, request)
        responder = Responder(generation)
        reason, generated = await self._run(served, self._job(generation, responder))
        return web.json_response(responder.whole(reason, generated))

    async def _stream(self, served: Served, generation: Generation, request: web.Request) -> web.StreamResponse:
        if request.version < HttpVersion11:
            raise ApiError(400, "streaming needs HTTP/1.1")
        responder = Responder(generation)
        response = web.StreamResponse(headers=_SSE_HEADERS)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"")  # sends the headers, so that raw chunks may follow
        transport = request.transport
        if transport is None:
            return response
        first = http_chunk(responder.first_event())
        write_token = functools.partial(transport.write, http_chunk(responder.token_event()))
        job = self._job(generation, responder)

        def write_first() -> None:
            transport.write(first)
            write_token()
            job.on_token = write_token

        job.on_token = write_first if first else write_token
        reason, generated = await self._run(served, job)
        opening = responder.first_event() if generated == 1 and reason == "length" else b""
        await response.write(opening + responder.last_events(reason, generated))
        return response

    def _job(self, generation: Generation, responder: Responder) -> Job:
        ended: asyncio.Future[FinishReason] = asyncio.get_running_loop().create_future()
        request = EngineRequest(
            request_id=responder.request_id,
            arrival_s=asyncio.get_running_loop().time(),
            input_tokens=generation.prompt_tokens,
            output_tokens=generation.max_tokens,
        )
        return Job(request, on_token=lambda: None, ended=ended)

    async def _run(self, served: Served, job: Job) -> tuple[FinishReason, int]:
        """Run a job to its end; a client that goes away cancels this and with it the job."""
        served.replica.submit(job)
        try:
            return await job.ended, job.emitted_tokens
        finally:
            served.replica.abort(job)

    async def _models(self, _request: web.Request) -> web.Response:
        served = self._ready()
        settings = served.settings
        models = [
            {
                "id": name,
                "object": "model",
                "created": int(served.http_metrics.created_unix_s),
                "owned_by": "vllm",
                "root": settings.model,
                "parent": None,
                "max_model_len": served.max_model_len,
            }
            for name in settings.served_model_names
        ]
        return web.json_response({"object": "list", "data": models})

    async def _health(self, _request: web.Request) -> web.Response:
        self._ready()
        return web.Response()

    async def _load(self, _request: web.Request) -> web.Response:
        return web.json_response({"server_load": self._ready().replica.jobs})

    async def _version(self, _request: web.Request) -> web.Response:
        self._ready()
        return web.json_response({"version": VLLM_VERSION})

    async def _metrics(self, _request: web.Request) -> web.Response:
        served = self._ready()
        served.replica.update_gauges()
        process = generate_latest(REGISTRY).decode()
        text = process + served.metrics.render() + served.http_metrics.render()
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refusals as vLLM phrases them."""
    try:
        return await handler(request)
    except ApiError as error:
        return web.json_response(error.body(), status=error.status)
    except web.HTTPException as error:
        return web.json_response({"detail": error.reason}, status=error.status)
