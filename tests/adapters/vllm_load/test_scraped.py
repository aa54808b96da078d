import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf

import httpx
import pytest

from dynawatt.adapters.vllm_load import scraped
from dynawatt.adapters.vllm_load.histograms import fraction_within
from dynawatt.adapters.vllm_load.scraped import ScrapedLoadSource
from dynawatt.adapters.vllm_load.source import LoadQuestion, WatchedPod
from dynawatt.ports import MetricsUnavailable

from .pages import INPUT, OUTPUT, Pod


class World:
    """Pods by address, at a time that the test sets; what is not a pod is an answer."""

    def __init__(self, **pods):
        self.now_s = 1000.0
        self.pods = pods
        self.begun_s = dict.fromkeys(pods, 0.0)
        self.asked = []
        self.source = ScrapedLoadSource(
            clock_s=lambda: self.now_s, transport=httpx.MockTransport(self._answer), timeout_s=0.2
        )

    def _answer(self, request):
        self.asked.append(str(request.url))
        pod = self.pods[request.url.host]
        if not isinstance(pod, Pod):
            return pod(request)
        return httpx.Response(200, text=pod.at(self.now_s - self.begun_s[request.url.host]))

    def question(self, **more):
        return LoadQuestion(
            **{
                "namespace": "prod",
                "deployment": "llama",
                "shapes": {"llama": [WatchedPod(name, name) for name in self.pods]},
                **more,
            }
        )

    async def look(self, looks=1, every_s=10.0, **more):
        found = None
        for _ in range(looks):
            self.now_s += every_s
            try:
                found = await self.source.observe(self.question(**more))
            except MetricsUnavailable:
                if looks == 1:
                    raise
        return found


async def test_a_steady_load():
    world = World(a=Pod(), b=Pod(rate_rps=1.0, old=True))
    found = await world.look(20)
    assert found.rate_rps == pytest.approx(5.0, rel=1e-6)
    assert found.recent_rps == pytest.approx(5.0, rel=1e-6)
    assert found.recent_window_s == pytest.approx(40)
    assert found.burst_rps == found.rate_rps
    assert found.running == pytest.approx(10.0)
    assert (found.waiting, found.kv_usage, found.age_s) == (0.0, 0.5, 0.0)
    assert found.generated_tps == pytest.approx(5.0 * OUTPUT)
    assert (found.mix.mean_input_tokens, found.mix.mean_output_tokens) == pytest.approx((INPUT, OUTPUT), rel=0.01)
    assert fraction_within(found.ttft, 0.25) == pytest.approx(1.0)
    assert fraction_within(found.tbt, 0.025) == pytest.approx(0.0)
    assert [bound for bound, _ in found.tbt] == [0.025, 0.05, 0.1, inf]


async def test_shapes_are_told_apart():
    world = World(a=Pod(), b=Pod(), c=Pod(rate_rps=1.0, ttft_s=0.4))
    shapes = {"llama": [WatchedPod("a", "a"), WatchedPod("b", "b")], "llama-0a1b2c": [WatchedPod("c", "c")], "new": []}
    found = await world.look(15, shapes=shapes)
    assert {shape: (load.pods, pytest.approx(load.rate_rps)) for shape, load in found.shapes.items()} == {
        "llama": (2, 8.0),
        "llama-0a1b2c": (1, 1.0),
    }
    assert fraction_within(found.shapes["llama"].ttft, 0.25) == pytest.approx(1.0)
    assert fraction_within(found.shapes["llama-0a1b2c"].ttft, 0.25) == pytest.approx(0.0)


async def test_the_first_look_tells_no_rate():
    world = World(a=Pod())
    with pytest.raises(MetricsUnavailable, match="scraped for the first time: a second look"):
        await world.look()
    assert (await world.look()).rate_rps == pytest.approx(4.0)


async def test_after_a_long_pause_it_begins_anew():
    world = World(a=Pod())
    await world.look(3)
    world.now_s += 500
    world.pods["a"] = Pod(rate_rps=8.0)
    with pytest.raises(MetricsUnavailable, match="for the first time"):
        await world.look()


async def test_a_pod_that_began_anew_counts_from_zero():
    world = World(a=Pod(), b=Pod())
    await world.look(15)
    world.begun_s["a"] = world.now_s + 3  # its requests of the ten seconds before are lost, and three without any
    found = await world.look()
    assert found.rate_rps == pytest.approx((8.0 * 110 + 4.0 * 10 + 4.0 * 7) / 120, rel=0.02)
    assert found.mix is not None


async def test_a_pod_that_is_gone_goes_on_counting():
    world = World(a=Pod(), b=Pod())
    await world.look(15)
    del world.pods["b"]
    found = await world.look()
    assert found.rate_rps == pytest.approx((8.0 * 110 + 4.0 * 10) / 120)
    assert found.shapes["llama"].pods == 1
    assert (await world.look(12)).rate_rps == pytest.approx(4.0)


async def test_a_burst_is_seen_within_two_looks():
    world = World(a=Pod(rate_rps=2.0))
    await world.look(15)
    world.begun_s["b"] = world.now_s
    world.pods["b"] = Pod(rate_rps=40.0)
    await world.look()
    found = await world.look()
    assert found.rate_rps < 0.3 * 42
    assert found.burst_rps > found.rate_rps * 1.1


@pytest.mark.parametrize("aborted", [0.0, 0.3, 1.0])
async def test_requests_that_clients_give_up_count(aborted):
    world = World(a=Pod(aborted=aborted))
    assert (await world.look(15)).rate_rps == pytest.approx(4.0, rel=0.01)


async def test_requests_that_wait_count():
    def busy(request):
        text = Pod().at(world.now_s).replace("waiting{engine", 'waiting{x="",engine')
        return httpx.Response(200, text=text.replace('x="",engine="0",model_name="m"} 0', f"}} {3 * world.now_s}"))

    world = World(a=busy)
    found = await world.look(15)
    assert found.rate_rps == pytest.approx(7.0)
    assert found.waiting == pytest.approx(3 * world.now_s)


def hang(request):
    raise httpx.ReadTimeout("slow", request=request)


def refuse(request):
    raise httpx.ConnectError("connection refused", request=request)


async def drip():
    while True:
        yield b"#"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (hang, "did not answer within 0.2 s: does a NetworkPolicy"),
        (lambda request: httpx.Response(200, content=drip()), "did not answer within 0.2 s"),
        (refuse, "cannot be read: ConnectError"),
        (lambda request: httpx.Response(503), "HTTP 503"),
        (lambda request: httpx.Response(302, headers={"Location": "http://elsewhere/"}), "HTTP 302"),
        (lambda request: httpx.Response(200, content=b"#" * (scraped._MOST_BYTES + 1)), "more than 4 MiB"),
        (lambda request: httpx.Response(200, text="<html>"), "does not tell vllm:"),
    ],
)
async def test_a_pod_that_cannot_be_read_fails_the_look(answer, message):
    world = World(a=Pod(), b=Pod())
    await world.look(3)
    good, world.pods["b"] = world.pods["b"], answer
    with pytest.raises(MetricsUnavailable, match=f"pod b: http://b:8000/metrics.*{message}"):
        await world.look()
    fresh = [WatchedPod("a", "a"), WatchedPod("b", "b", expected=False)]
    assert (await world.look(shapes={"llama": fresh})).shapes["llama"].pods == 1
    world.pods["b"] = good  # what it did meanwhile is not lost
    found = await world.look()
    assert found.rate_rps == pytest.approx(8.0)


async def test_a_moment_of_trouble_is_tried_again():
    answers = [refuse]

    def sometimes(request):
        return answers.pop()(request) if answers else httpx.Response(200, text=Pod().at(world.now_s))

    world = World(a=sometimes)
    with pytest.raises(MetricsUnavailable, match="for the first time"):
        await world.look()


async def test_a_pod_without_an_address():
    world = World(a=Pod())
    with pytest.raises(MetricsUnavailable, match="pod new: has no address yet"):
        await world.look(shapes={"llama": [WatchedPod("new")]})
    assert world.asked == []


async def test_services_of_one_name_in_two_namespaces():
    world = World(a=Pod(), b=Pod(rate_rps=1.0))
    for _ in range(3):
        world.now_s += 10
        rates = []
        for namespace, pod in (("one", "a"), ("two", "b")):
            question = world.question(namespace=namespace, shapes={"llama": [WatchedPod("same", pod)]})
            try:
                rates.append((await world.source.observe(question)).rate_rps)
            except MetricsUnavailable:
                rates.append(None)
    assert rates == pytest.approx([4.0, 1.0])


async def test_there_is_no_history():
    world = World(a=Pod())
    with pytest.raises(MetricsUnavailable, match="pods remember no past load"):
        await world.source.history(world.question(), until_s=0.0, slot_s=300, slots=12)


async def test_over_the_network():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            text = Pod().at(clock[0]).encode() if self.path == "/metrics" else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *arguments):
            pass

    clock = [100.0]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    source = ScrapedLoadSource(clock_s=lambda: clock[0], most_at_once=2)
    pods = [WatchedPod(f"p{index}", "127.0.0.1", server.server_port) for index in range(10)]
    question = LoadQuestion("prod", "llama", {"llama": pods})
    try:
        with pytest.raises(MetricsUnavailable, match="for the first time"):
            await source.observe(question)
        clock[0] += 10
        assert (await source.observe(question)).rate_rps == pytest.approx(40.0)
    finally:
        await source.close()
        server.shutdown()
        server.server_close()
