import asyncio
import json
import time

import numpy as np
import pytest

from dynawatt.errors import OperationError
from dynawatt.load.client import completion_body
from dynawatt.load.endpoints import Endpoint, StaticEndpoints
from dynawatt.load.replay import INTERRUPTED, ReplayOptions, replay
from dynawatt.workload.objectives import LatencyObjectives
from dynawatt.workload.trace import Trace

OBJECTIVES = LatencyObjectives(((None, 1.0),), 0.5)


def trace_of(count: int, spacing_s: float = 0.0, input_tokens: int = 20, output_tokens: int = 4) -> Trace:
    return Trace(np.arange(count) * spacing_s, np.full(count, input_tokens), np.full(count, output_tokens))


class Pods:
    def __init__(self, *endpoints: Endpoint) -> None:
        self.endpoints = list(endpoints)

    def current(self) -> list[Endpoint]:
        return list(self.endpoints)


@pytest.mark.parametrize(("input_tokens", "output_tokens"), [(1, 1), (2, 5), (3, 1), (4, 1), (17, 300), (9000, 2)])
def test_body_has_exact_lengths(input_tokens, output_tokens):
    fields = json.loads(completion_body(b'"m"', 12_345, input_tokens, output_tokens))
    assert len(fields.pop("prompt")) == input_tokens
    assert fields == {
        "model": "m",
        "max_tokens": output_tokens,
        "min_tokens": output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_no_two_prompts_share_a_prefix_block():
    prompts = [json.loads(completion_body(b'"m"', number, 40, 1))["prompt"] for number in range(5000)]
    assert len({tuple(prompt[:16]) for prompt in prompts}) == 5000
    assert all(100 <= token <= 999 for token in prompts[4321])


async def test_replays_in_full(vllm, script):
    vllm.script = lambda body: script(gap_s=0.02, first_s=0.05)
    report = await replay(trace_of(10, 0.02), StaticEndpoints([vllm.url]), OBJECTIVES)
    assert (report.requests, report.succeeded, report.failed, report.retried) == (10, 10, 0, 0)
    assert report.attainment.ttft == report.attainment.tbt == 1
    assert (report.generated_tokens, report.prompt_tokens, report.gaps) == (40, 200, 30)
    assert report.ttft_s.p50 is not None
    assert 0.05 <= report.ttft_s.p50 < 0.5
    assert report.tbt_s.p50 is not None
    assert 0.015 <= report.tbt_s.p50 < 0.1
    assert report.stopped is None
    assert {body["model"] for body in vllm.bodies} == {"tiny"}
    json.dumps(report.to_json(), allow_nan=False)


async def test_is_an_open_loop(vllm, script):
    vllm.script = lambda body: script(first_s=0.3)
    report = await replay(trace_of(30, 0.002), StaticEndpoints([vllm.url]), OBJECTIVES)
    assert vllm.most_running == 30
    assert report.duration_s < 1.5


async def test_ttft_counts_from_the_scheduled_arrival(vllm, script):
    vllm.script = lambda body: script()
    blocked = False

    def block_once(progress):
        nonlocal blocked
        if not blocked:
            blocked = True
            time.sleep(0.4)  # the generator itself is held up

    report = await replay(trace_of(30, 0.05), StaticEndpoints([vllm.url]), OBJECTIVES, block_once)
    assert report.max_send_delay_s > 0.2
    assert report.ttft_s.p99 is not None
    assert report.ttft_s.p99 > 0.2


@pytest.mark.parametrize(
    ("behaviour", "reason", "example"),
    [
        ({"status": 500}, "HTTP 500", "told to refuse"),
        ({"status": 503}, "HTTP 503", "told to refuse"),
        ({"tokens": 2, "finish_reason": "abort"}, "abort", "2 of 4 tokens"),
        ({"tokens": 0, "finish_reason": "abort"}, "abort", "0 of 4 tokens"),
        ({"tokens": 3}, "too few tokens", "3 of 4 tokens, finish_reason length"),
        ({"tokens": 0, "finish_reason": None}, "too few tokens", "finish_reason None"),
        ({"tokens": 2, "drop": True, "finish_reason": None}, "connection lost", "after 2 of 4 tokens"),
        ({"tokens": 2, "error": "engine died"}, "server error", "engine died"),
        ({"hang": True}, "timeout", "not finished after 0.5 s, 0 tokens"),
    ],
)
async def test_failures(vllm, script, behaviour, reason, example):
    vllm.script = lambda body: script(**behaviour)
    options = ReplayOptions(request_timeout_s=0.5)
    report = await replay(trace_of(3, 0.01), StaticEndpoints([vllm.url]), OBJECTIVES, options=options)
    assert report.failed_by_reason == {reason: 3}
    assert example in report.failure_examples[reason]
    assert (report.failed, report.retried) == (3, 0)
    assert report.attainment.ttft == 0


async def test_events_of_several_tokens_are_counted_by_usage(vllm, script):
    vllm.script = lambda body: script(tokens_per_event=2, gap_s=0.01)
    report = await replay(trace_of(1, output_tokens=8), StaticEndpoints([vllm.url]), OBJECTIVES)
    assert (report.succeeded, report.generated_tokens, report.gaps) == (1, 8, 3)


async def test_refused_requests_go_to_another_pod(new_vllm, script, refused_url):
    good, unavailable = await new_vllm(), await new_vllm()
    unavailable.script = lambda body: script(status=503)
    gone = Endpoint("gone", refused_url)
    for bad in (gone, unavailable.endpoint):
        pods = Pods(bad, good.endpoint)
        pods.endpoints[1].outstanding = 50  # so that the bad one is asked first
        report = await replay(trace_of(4), pods, OBJECTIVES, options=ReplayOptions(model="m"))
        assert (report.succeeded, report.failed, report.retried) == (4, 0, 4)
    report = await replay(trace_of(4), Pods(gone, Endpoint("gone too", refused_url)), options=ReplayOptions(model="m"))
    assert report.failed_by_reason == {"cannot connect": 4}
    assert report.retried == 4


@pytest.mark.parametrize(
    ("refusing", "succeeded", "asked_in_vain"), [(3, 1, 3), (4, 0, 4), (6, 0, 4)], ids=["3", "4", "6"]
)
async def test_at_most_three_retries(new_vllm, script, refusing, succeeded, asked_in_vain):
    servers = [await new_vllm() for _ in range(refusing + 1)]
    for server in servers[:-1]:
        server.script = lambda body: script(status=503)
    pods = Pods(*(server.endpoint for server in servers))
    pods.endpoints[-1].outstanding = 50  # asked last
    report = await replay(trace_of(1), pods, OBJECTIVES, options=ReplayOptions(model="m"))
    assert (report.succeeded, report.retried) == (succeeded, 3)
    assert sorted((len(server.bodies) for server in servers[:-1]), reverse=True)[:asked_in_vain] == [1] * asked_in_vain
    assert sum(len(server.bodies) for server in servers[:-1]) == asked_in_vain


async def test_no_retry_long_after_the_first_refusal(new_vllm, script, monkeypatch):
    monkeypatch.setattr("dynawatt.load.replay._RETRY_WITHIN_S", -1.0)
    servers = [await new_vllm(), await new_vllm()]
    for server in servers:
        server.script = lambda body: script(status=503)
    report = await replay(trace_of(1), Pods(*(server.endpoint for server in servers)), options=ReplayOptions(model="m"))
    assert (report.failed_by_reason, report.retried) == ({"HTTP 503": 1}, 0)


async def test_other_failures_are_not_retried(new_vllm, script):
    servers = [await new_vllm(), await new_vllm()]
    for server in servers:
        server.script = lambda body: script(tokens=0, finish_reason="abort")
    report = await replay(trace_of(4), Pods(*(server.endpoint for server in servers)), OBJECTIVES)
    assert (report.failed_by_reason, report.retried) == ({"abort": 4}, 0)
    assert sum(len(server.bodies) for server in servers) == 4


async def test_spreads_over_pods_as_they_come_and_go(new_vllm, script):
    first, second = await new_vllm(), await new_vllm()
    for server in (first, second):
        server.script = lambda body: script(first_s=0.2)
    pods = Pods(first.endpoint, second.endpoint)
    await replay(trace_of(20), pods)
    assert len(first.bodies) == len(second.bodies) == 10
    pods.endpoints.pop()
    await replay(trace_of(5), pods)
    assert (len(first.bodies), len(second.bodies)) == (15, 10)


async def test_without_ready_pod_requests_fail():
    report = await replay(trace_of(2), Pods(), options=ReplayOptions(model="m", endpoint_wait_s=0.2))
    assert report.failed_by_reason == {"no ready pod": 2}
    assert "for 0.2 s" in report.failure_examples["no ready pod"]
    with pytest.raises(OperationError, match=r"no pod became Ready within 0.1 s.*--model NAME"):
        await replay(trace_of(2), Pods(), options=ReplayOptions(endpoint_wait_s=0.1))


async def test_requests_wait_for_a_ready_pod(vllm):
    pods = Pods()
    asyncio.get_running_loop().call_later(0.3, pods.endpoints.append, vllm.endpoint)
    report = await replay(trace_of(2), pods, OBJECTIVES, options=ReplayOptions(model="m"))
    assert (report.succeeded, report.retried) == (2, 0)
    assert report.ttft_s.p50 is not None
    assert 0.3 <= report.ttft_s.p50 < 0.8  # from the scheduled arrival, the wait included


async def test_server_that_is_not_there(refused_url):
    with pytest.raises(OperationError, match=r"/v1/models: .*is a vLLM server there\?"):
        await replay(trace_of(1), StaticEndpoints([refused_url]))


@pytest.mark.parametrize("spacing_s", [0.0, 5.0], ids=["while waiting for ends", "while waiting to send"])
async def test_stopping_gives_a_partial_report(vllm, script, spacing_s):
    vllm.script = lambda body: script(first_s=20)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.2, stop.set)
    options = ReplayOptions(grace_s=0.1)
    report = await replay(trace_of(3, spacing_s), StaticEndpoints([vllm.url]), OBJECTIVES, options=options, stop=stop)
    assert report.stopped == INTERRUPTED
    assert report.unfinished == report.requests == (1 if spacing_s else 3)
    assert report.failed == 0
    assert report.duration_s < 2


async def test_stopping_lets_requests_end_within_the_grace_time(vllm, script):
    vllm.script = lambda body: script(first_s=0.3)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.1, stop.set)
    report = await replay(trace_of(2), StaticEndpoints([vllm.url]), OBJECTIVES, stop=stop)
    assert (report.stopped, report.succeeded, report.unfinished) == (INTERRUPTED, 2, 0)


async def test_gives_up_when_servers_do_not_keep_up(vllm, script):
    vllm.script = lambda body: script(first_s=20)
    options = ReplayOptions(max_outstanding=5, grace_s=0.1)
    report = await replay(trace_of(50, 0.001), StaticEndpoints([vllm.url]), OBJECTIVES, options=options)
    assert report.stopped is not None
    assert report.stopped.startswith("5 requests are outstanding after 0 s: the servers do not keep up")
    assert (report.requests, report.unfinished) == (5, 5)


async def test_progress_is_reported_every_second(vllm, script):
    vllm.script = lambda body: script(gap_s=0.01)
    seen = []
    await replay(trace_of(45, 0.05), StaticEndpoints([vllm.url]), OBJECTIVES, seen.append)
    assert [round(progress.elapsed_s) for progress in seen] == [1, 2]
    assert seen[1].recent_rps == pytest.approx(20, rel=0.15)
    assert seen[1].recent_tokens_per_s == pytest.approx(80, rel=0.2)
    assert seen[1].attainment.ttft == 1
    assert seen[1].planned == 45


async def test_a_broken_listener_ends_the_replay_with_its_error(vllm, script):
    def broken(progress):
        raise RuntimeError("view is broken")

    with pytest.raises(RuntimeError, match="view is broken"):
        await replay(trace_of(30, 0.05), StaticEndpoints([vllm.url]), OBJECTIVES, broken)
