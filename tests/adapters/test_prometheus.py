import asyncio
import math

import pytest
from aiohttp import web

from dynawatt.adapters.prometheus import Prometheus, open_prometheus
from dynawatt.errors import InvalidInputError
from dynawatt.ports import MetricsUnavailable, Sample

QUERY = 'sum(rate(vllm:x{pod=~"a+b&c"}[1m]))'
LIMITS = {"timeout": ["10s"], "partial_response": ["false"]}


def vector(*series):
    result = [{"metric": labels, "value": [1700000000.5, value]} for labels, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def matrix(*series):
    result = [{"metric": labels, "values": values} for labels, values in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


RANGE = matrix(({}, [[1, "2"]]))


async def test_an_instant_vector_becomes_samples(prometheus, always):
    source = await prometheus(always(200, json=vector(({"pod": "a"}, "1.5"), ({}, "+Inf"))))
    assert await source.query(QUERY) == [Sample({"pod": "a"}, 1.5), Sample({}, math.inf)]


async def test_nan_is_passed_on(prometheus, always):
    (found,) = await (await prometheus(always(200, json=vector(({}, "NaN"))))).query(QUERY)
    assert math.isnan(found.value)


async def test_no_series_is_an_empty_list(prometheus, always):
    assert await (await prometheus(always(200, json=vector()))).query(QUERY) == []


@pytest.mark.parametrize("path", ["/behind", "/behind/", ""])
async def test_the_query_goes_as_a_form_under_the_given_path(prometheus, path):
    seen = []

    async def answer(request, form):
        seen.append((request.method, request.path, form))
        return web.json_response(vector())

    await (await prometheus(answer, path)).query(QUERY)
    assert seen == [("POST", path.rstrip("/") + "/api/v1/query", {"query": [QUERY], **LIMITS})]


async def test_many_queries_share_a_few_connections(prometheus):
    peers = set()

    async def answer(request, form):
        peers.add(request.transport.get_extra_info("peername"))
        await asyncio.sleep(0.005)
        return web.json_response(vector())

    source = await prometheus(answer)
    await asyncio.gather(*[source.query(QUERY) for _ in range(60)])
    assert len(peers) <= 8


async def test_nobody_there():
    source = Prometheus("http://127.0.0.1:1")
    for ask in (source.query(QUERY), source.query_range(QUERY, 0, 600, 300)):
        with pytest.raises(MetricsUnavailable, match=r"http://127\.0\.0\.1:1 did not answer: .*Connect call failed"):
            await ask
    await source.close()


async def test_a_server_that_hangs_up_is_asked_once_more(prometheus):
    asked = []

    async def answer(request, form):
        asked.append(form["query"])
        if len(asked) == 2:
            request.transport.close()
        return web.json_response(vector(({}, "1")))

    source = await prometheus(answer)
    assert [await source.query(QUERY) for _ in range(2)] == [[Sample({}, 1.0)]] * 2
    assert len(asked) == 3


async def test_a_server_that_always_hangs_up(prometheus):
    async def answer(request, form):
        request.transport.close()
        return web.Response()

    with pytest.raises(MetricsUnavailable, match="did not answer: ServerDisconnectedError"):
        await (await prometheus(answer)).query(QUERY)


@pytest.mark.parametrize(
    ("status", "content", "parts"),
    [
        (502, {"text": "<html>bad gateway"}, ["HTTP 502 without JSON", "is it a Prometheus?"]),
        (401, {"text": "no"}, ["refused the credentials (HTTP 401)", "--prometheus-token-file"]),
        (403, {"json": {"status": "error"}}, ["HTTP 403", "grant them access"]),
        (404, {"text": "nothing"}, ["HTTP 404", "check the path"]),
        (429, {"text": "slow down"}, ["HTTP 429", "raise its limits"]),
        (302, {"headers": {"Location": "https://u:pw@login.test/?code=hush"}}, ["302 to https://login.test/", "URL"]),
        (307, {"headers": {"Location": "/login?code=hush"}}, ["307 to /login)", "URL"]),
        (200, {"body": b"\xff\xfe\x00"}, ["HTTP 200 without JSON"]),
        (400, {"json": {"status": "error", "error": "parse error"}}, ["query failed: parse error", QUERY]),
        (503, {"json": {"status": "error"}}, ["query failed: unexpected answer", QUERY]),
        (200, {"json": ["success"]}, ["query failed: unexpected answer", QUERY]),
        (200, {"json": RANGE}, ["no instant vector", QUERY]),
        (200, {"json": {"status": "success"}}, ["no instant vector", QUERY]),
        (200, {"json": {"status": "success", "data": {"result": [1, "2"]}}}, ["no instant vector", QUERY]),
        (200, {"json": vector(({}, "much"))}, ["no instant vector", QUERY]),
    ],
)
async def test_failures_name_the_cause(prometheus, always, status, content, parts):
    with pytest.raises(MetricsUnavailable) as caught:
        await (await prometheus(always(status, **content))).query(QUERY)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert not any(hidden in str(caught.value) for hidden in ("\n", "pw", "hush"))


async def test_closing(prometheus, always):
    source = await prometheus(always(200, json=vector()))
    await source.query(QUERY)
    await source.close()
    with pytest.raises(RuntimeError, match="closed"):
        await source.query(QUERY)


async def test_a_range_becomes_series(prometheus):
    seen = []

    async def answer(request, form):
        seen.append((request.path, form))
        return web.json_response(matrix(({"pod": "a"}, [[1.5, "2"], [3, "NaN"]]), ({}, [])))

    first, second = await (await prometheus(answer)).query_range(QUERY, 1000.0, 2000.5, 300)
    assert first.labels == {"pod": "a"}
    assert first.values[0] == (1.5, 2.0)
    assert math.isnan(first.values[1][1])
    assert list(second.values) == []
    [(path, form)] = seen
    assert path == "/api/v1/query_range"
    assert form == {"query": [QUERY], "start": ["1000.000"], "end": ["2000.500"], "step": ["300"], **LIMITS}


@pytest.mark.parametrize(
    ("status", "json", "parts"),
    [
        (422, {"status": "error", "error": "too many points"}, ["query failed: too many points", QUERY]),
        (200, vector(({}, "1")), ["no range of values", QUERY]),
        (200, {"status": "success"}, ["no range of values", QUERY]),
        (200, {"status": "success", "data": []}, ["no range of values", QUERY]),
    ],
)
async def test_failures_of_a_range_name_the_cause(prometheus, always, status, json, parts):
    with pytest.raises(MetricsUnavailable) as caught:
        await (await prometheus(always(status, json=json))).query_range(QUERY, 0, 600, 300)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


async def test_a_long_query_is_cut_in_messages(prometheus, always):
    with pytest.raises(MetricsUnavailable) as caught:
        await (await prometheus(always(503, json={"status": "error"}))).query(f"sum({'x' * 5000})")
    assert len(str(caught.value)) < 400


async def test_the_time_limit_holds_for_an_answer_that_drips(prometheus):
    async def drip(request, form):
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    with pytest.raises(MetricsUnavailable, match=r"did not answer within 0.1 s: sum\("):
        await (await prometheus(drip, timeout_s=0.1)).query(QUERY)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("prometheus:9090", "--prometheus-url prometheus:9090: must start with http:// or https://"),
        ("ftp://prometheus", "must start with http"),
        ("http://", "must start with http.* and name a host"),
        ("http://admin:hush@prometheus", "must hold no user name or password"),
        ("http://prometheus/?tenant=1", "without \\? and #"),
        ("http://prometheus:port", "must be a URL"),
        ("http://prometheus:99999", "must be a URL"),
        ("http://[::1", "must be a URL"),
    ],
)
def test_urls_that_cannot_be_used(url, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        open_prometheus(url)
    assert "hush" not in str(caught.value)
