import asyncio
import contextlib
import json

import aiohttp
import pytest

from dynawatt.adapters.vllm_args import VllmSettings
from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.sandbox.nodesim.gpus import SimulatedGpu
from dynawatt.sandbox.nodesim.server import VllmServer
from dynawatt.sandbox.nodesim.starting import start_replica

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
HOST = "127.0.0.1"


def free_port():
    import socket

    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return listener.getsockname()[1]


class Pod:
    """A served replica on loopback and a client for it."""

    def __init__(self, served, server, gpus, url, http):
        self.served, self.server, self.gpus, self.url, self.http = served, server, gpus, url, http

    async def post(self, path="/v1/completions", **fields):
        body = {"model": MODEL, "prompt": "one two three", "max_tokens": 5, **fields}
        async with self.http.post(self.url + path, json=body) as response:
            return response.status, await response.json()

    async def get(self, path):
        async with self.http.get(self.url + path) as response:
            return response.status, await response.text()

    async def stream(self, path="/v1/completions", on_event=None, **fields):
        body = {"model": MODEL, "prompt": "one two three", "max_tokens": 5, "stream": True, **fields}
        events = []
        async with self.http.post(self.url + path, json=body) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            async for line in response.content:
                if not line.strip():
                    continue
                assert line.startswith(b"data: ")
                data = line.removeprefix(b"data: ").strip()
                events.append(data.decode() if data == b"[DONE]" else json.loads(data))
                if on_event:
                    on_event(len(events))
        return events


@pytest.fixture
async def start_pod():
    async with contextlib.AsyncExitStack() as stack:

        async def start(*, ready=True, **settings):
            settings = VllmSettings(**{"model": MODEL, "served_model_names": (MODEL,), **settings})
            now_s = asyncio.get_running_loop().time()
            gpus = [
                SimulatedGpu(uuid=f"GPU-{index}", spec=H100_SXM, now_s=now_s)
                for index in range(settings.tensor_parallel_size)
            ]
            served = start_replica(settings, gpus)
            server = VllmServer(served)
            port = free_port()
            await server.listen(HOST, port)
            stack.push_async_callback(server.kill)
            if ready:
                server.serve()
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return Pod(served, server, gpus, f"http://{HOST}:{port}", http)

        yield start


@pytest.fixture
async def pod(start_pod):
    return await start_pod()
