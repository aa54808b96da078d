import asyncio
import math
from urllib.parse import parse_qs

import httpx
import pytest

from dynawatt.adapters.prometheus import Prometheus, open_prometheus
from dynawatt.errors import InvalidInputError
from dynawatt.ports import MetricsUnavailable, Sample

QUERY = 'sum(rate(vllm:x{pod=~"a+b&c"}[1m]))'


LIMITS = {"timeout": ["10s"], "partial_response": ["false"]}


def prometheus(answer, url="http://prometheus.test:9090"):
    return Prometheus(url, transport=httpx.MockTransport(answer))


def vector(*series):
    result = [{"metric": labels, "value": [1700000000.5, value]} for labels, value in series]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def always(status, **content):
    return lambda request: httpx.Response(status, **content)


async def test_an_instant_vector_becomes_samples():
    found = await prometheus(always(200, json=vector(({"pod": "a"}, "1.5"), ({}, "+Inf")))).query(QUERY)
    assert found == [Sample({"pod": "a"}, 1.5), Sample({}, math.inf)]


async def test_nan_is_passed_on():
    (found,) = await prometheus(always(200, json=vector(({}, "NaN")))).query(QUERY)
    assert math.isnan(found.value)


async def test_no_series_is_an_empty_list():
    assert await prometheus(always(200, json=vector())).query(QUERY) == []


@pytest.mark.parametrize(
    "url", ["http://prometheus.test:9090/behind", "http://prometheus.test:9090/behind/", "http://prometheus.test:9090"]
)
async def test_the_query_goes_as_a_form_under_the_given_path(url):
    seen = []

    def answer(request):
        seen.append((request.method, request.url.path, parse_qs(request.content.decode())))
        return httpx.Response(200, json=vector())

    await prometheus(answer, url).query(QUERY)
    assert seen == [("POST", ("/behind" if "behind" in url else "") + "/api/v1/query", {"query": [QUERY], **LIMITS})]


def refuse(request):
    raise httpx.ConnectError("connection refused", request=request)


def stall(request):
    raise httpx.ReadTimeout("too slow", request=request)


RANGE = {"status": "success", "data": {"result": [{"metric": {}, "values": [[1, "2"]]}]}}


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (refuse, ["http://prometheus.test:9090", "did not answer", "connection refused"]),
        (stall, ["http://prometheus.test:9090", "did not answer", "ReadTimeout"]),
        (always(502, text="<html>bad gateway"), ["HTTP 502 without JSON", "is it a Prometheus?"]),
        (always(401, text="no"), ["refused the credentials (HTTP 401)", "--prometheus-token-file"]),
        (always(403, json={"status": "error"}), ["HTTP 403", "grant them access"]),
        (always(404, text="nothing"), ["HTTP 404", "check the path"]),
        (always(429, text="slow down"), ["HTTP 429", "raise its limits"]),
        (
            always(302, headers={"Location": "https://u:pw@login.test/?code=hush"}),
            ["302 to https://login.test/", "URL"],
        ),
        (always(200, content=b"\xff\xfe\x00"), ["HTTP 200 without JSON"]),
        (always(400, json={"status": "error", "error": "parse error"}), ["query failed: parse error", QUERY]),
        (always(503, json={"status": "error"}), ["query failed: unexpected answer", QUERY]),
        (always(200, json=["success"]), ["query failed: unexpected answer", QUERY]),
        (always(200, json=RANGE), ["no instant vector", QUERY]),
        (always(200, json={"status": "success"}), ["no instant vector", QUERY]),
        (always(200, json={"status": "success", "data": {"result": [1, "2"]}}), ["no instant vector", QUERY]),
        (always(200, json=vector(({}, "much"))), ["no instant vector", QUERY]),
    ],
)
async def test_failures_name_the_cause(answer, parts):
    with pytest.raises(MetricsUnavailable) as caught:
        await prometheus(answer).query(QUERY)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert not any(hidden in str(caught.value) for hidden in ("\n", "pw", "hush"))


async def test_closing():
    source = prometheus(always(200, json=vector()))
    await source.close()
    with pytest.raises(RuntimeError, match="closed"):
        await source.query(QUERY)


def matrix(*series):
    result = [{"metric": labels, "values": values} for labels, values in series]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}


async def test_a_range_becomes_series():
    seen = []

    def answer(request):
        seen.append((request.url.path, parse_qs(request.content.decode())))
        return httpx.Response(200, json=matrix(({"pod": "a"}, [[1.5, "2"], [3, "NaN"]]), ({}, [])))

    first, second = await prometheus(answer).query_range(QUERY, 1000.0, 2000.5, 300)
    assert first.labels == {"pod": "a"}
    assert first.values[0] == (1.5, 2.0)
    assert math.isnan(first.values[1][1])
    assert list(second.values) == []
    [(path, form)] = seen
    assert path == "/api/v1/query_range"
    assert form == {"query": [QUERY], "start": ["1000.000"], "end": ["2000.500"], "step": ["300"], **LIMITS}


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        (refuse, ["did not answer", "connection refused"]),
        (always(422, json={"status": "error", "error": "too many points"}), ["query failed: too many points", QUERY]),
        (always(200, json=vector(({}, "1"))), ["no range of values", QUERY]),
        (always(200, json={"status": "success"}), ["no range of values", QUERY]),
        (always(200, json={"status": "success", "data": []}), ["no range of values", QUERY]),
    ],
)
async def test_failures_of_a_range_name_the_cause(answer, parts):
    with pytest.raises(MetricsUnavailable) as caught:
        await prometheus(answer).query_range(QUERY, 0, 600, 300)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


async def test_a_long_query_is_cut_in_messages():
    with pytest.raises(MetricsUnavailable) as caught:
        await prometheus(always(503, json={"status": "error"})).query(f"sum({'x' * 5000})")
    assert len(str(caught.value)) < 400


async def test_the_time_limit_holds_for_an_answer_that_drips():
    async def drip():
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    source = Prometheus(
        "http://prometheus.test",
        timeout_s=0.1,
        transport=httpx.MockTransport(lambda request: httpx.Response(200, content=drip())),
    )
    with pytest.raises(MetricsUnavailable, match=r"did not answer within 0.1 s: TimeoutError: sum\("):
        await source.query(QUERY)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("prometheus:9090", "--prometheus-url prometheus:9090: must start with http:// or https://"),
        ("ftp://prometheus", "must start with http"),
        ("http://", "must start with http.* and name a host"),
        ("http://admin:hush@prometheus", "must hold no user name or password"),
        ("http://prometheus/?tenant=1", "without \\? and #"),
        ("http://prometheus:port", "must be a URL"),
    ],
)
def test_urls_that_cannot_be_used(url, message):
    with pytest.raises(InvalidInputError, match=message) as caught:
        open_prometheus(url)
    assert "hush" not in str(caught.value)
