"""A peer that streams as vLLM does, and misbehaves as told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from dynawatt.load.endpoints import Endpoint


@dataclass
class Script:
    """What the server does with a request."""

    status: int = 200
    tokens: int | None = None
    finish_reason: str | None = "length"
    error: str | None = None
    drop: bool = False
    hang: bool = False
    gap_s: float = 0.0
    first_s: float = 0.0
    tokens_per_event: int = 1
    usage: bool = True


@dataclass
class FakeVllm:
    url: str = ""
    script: Callable[[dict[str, Any]], Script] = lambda body: Script()
    bodies: list[dict[str, Any]] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.url, self.url)

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "tiny"}]})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            return await self.stream(request, body, self.script(body))
        finally:
            self.running -= 1

    async def stream(self, request: web.Request, body: dict[str, Any], script: Script) -> web.StreamResponse:
        if script.status != 200:
            return web.json_response({"error": {"message": "told to refuse"}}, status=script.status)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if script.hang:
            await asyncio.sleep(30)
        await asyncio.sleep(script.first_s)
        left = body["max_tokens"] if script.tokens is None else script.tokens
        total = left
        while left > 0:
            left -= script.tokens_per_event
            last = left <= 0 and script.finish_reason == "length" and not script.error
            await response.write(event(" token", "length" if last else None))
            await asyncio.sleep(script.gap_s)
        if script.drop:
            assert request.transport is not None
            request.transport.abort()
            return response
        if script.error:
            await response.write(sse({"error": {"message": script.error, "code": 500}}))
        elif script.finish_reason == "abort":
            await response.write(event("", "abort"))
        if script.usage and not script.error:
            await response.write(sse({"choices": [], "usage": {"completion_tokens": total}}))
        await response.write(b"data: [DONE]\n\n")
        return response


def sse(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def event(text: str, finish_reason: str | None) -> bytes:
    return sse({"id": "cmpl-1", "choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]})


@pytest.fixture
async def new_vllm() -> AsyncIterator[Callable[[], Any]]:
    runners = []

    async def start(host: str = "127.0.0.1") -> FakeVllm:
        server = FakeVllm()
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/v1/models", server.models)
        app.router.add_post("/v1/completions", server.completions)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, host, 0)
        await site.start()
        server.url = f"http://{host}:{runner.addresses[0][1]}"
        return server

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def vllm(new_vllm) -> FakeVllm:
    return await new_vllm()


@pytest.fixture
def script() -> type[Script]:
    return Script


@pytest.fixture
def refused_url(unused_tcp_port: int) -> str:
    return f"http://127.0.0.1:{unused_tcp_port}"
