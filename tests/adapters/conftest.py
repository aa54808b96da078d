from urllib.parse import parse_qs

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from dynawatt.adapters.prometheus import Prometheus


@pytest.fixture
async def prometheus():
    """Start a server that answers as it is told, and give the client that asks it.

    What answers gets the request and its form, and may be any coroutine function.
    """
    servers, clients = [], []

    async def start(answer, path="", **options):
        async def handle(request):
            return await answer(request, parse_qs((await request.read()).decode()))

        server = RawTestServer(handle)
        await server.start_server()
        servers.append(server)
        client = Prometheus(f"http://{server.host}:{server.port}{path}", **options)
        clients.append(client)
        return client

    yield start
    for each in clients:
        await each.close()
    for each in servers:
        await each.close()


@pytest.fixture
def always():
    """An answer that is the same for every request."""

    def make(status, *, json=None, **content):
        async def answer(request, form):
            return web.Response(status=status, **content) if json is None else web.json_response(json, status=status)

        return answer

    return make
