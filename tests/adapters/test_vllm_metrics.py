import json
import re
from math import inf, nan
from urllib.parse import parse_qs

import httpx
import pytest

from dynawatt.adapters.prometheus import Prometheus
from dynawatt.adapters.vllm_metrics import arrivals_before, observe
from dynawatt.ports import MetricsUnavailable

PODS = ("llama-6f7d9c8b5-abcde", "llama-6f7d9c8b5-fghij")
QUERIES = {
    "queue": "sum by (pod) (vllm:num_requests_waiting{",
    "first tokens": "sum(rate(vllm:time_to_first_token_seconds_count{",
    "growth": "clamp_min(sum(deriv(vllm:num_requests_waiting{",
    "inputs": "sum by (le) (increase(vllm:request_prompt_tokens_bucket{",
    "outputs": "sum by (le) (increase(vllm:request_generation_tokens_bucket{",
    "input sum": "sum (increase(vllm:request_prompt_tokens_sum{",
    "output sum": "sum (increase(vllm:request_generation_tokens_sum{",
    "ttft": "sum by (le) (increase(vllm:time_to_first_token_seconds_bucket{",
    "tbt": "sum by (le) (increase(vllm:inter_token_latency_seconds_bucket{",
}


def buckets(**counts):
    return [({"le": bound}, str(count)) for bound, count in counts.items()]


def healthy():
    return {
        "queue": [({"pod": pod}, "0") for pod in PODS],
        "first tokens": [({}, "3.5")],
        "growth": [({}, "0.5")],
        "inputs": buckets(**{"+Inf": 40, "100": 0, "1000": 40}),
        "outputs": buckets(**{"10": 0, "100": 20, "+Inf": 20}),
        "input sum": [({}, "12000")],
        "output sum": [({}, "1000")],
        "ttft": buckets(**{"0.1": 30, "0.5": 40, "+Inf": 40}),
        "tbt": buckets(**{"0.025": 900, "+Inf": 1000}),
    }


async def look(pods=PODS, asked=None, **changes):
    answers = {**healthy(), **{name.replace("_", " "): series for name, series in changes.items()}}

    def answer(request):
        (promql,) = parse_qs(request.content.decode())["query"]
        if asked is not None:
            asked.append(promql)
        (name,) = [name for name, start in QUERIES.items() if promql.startswith(start)]
        if answers[name] is None:
            return httpx.Response(422, json={"status": "error", "error": "too many samples"})
        result = [{"metric": labels, "value": [0, value]} for labels, value in answers[name]]
        return httpx.Response(200, content=json.dumps({"status": "success", "data": {"result": result}}))

    source = Prometheus("http://prometheus.test", transport=httpx.MockTransport(answer))
    return await observe(source, namespace="prod", deployment="llama", pods=pods, rate_window_s=60, mix_window_s=300)


async def test_a_look_at_a_healthy_service():
    asked = []
    found = await look(asked=asked)
    assert found.rate_rps == 4.0
    assert found.ttft == [(0.1, 30.0), (0.5, 40.0), (inf, 40.0)]
    assert found.tbt == [(0.025, 900.0), (inf, 1000.0)]
    assert found.finished_requests == 40
    assert (found.mix.mean_input_tokens, found.mix.mean_output_tokens) == pytest.approx((300, 50), abs=0.01)
    assert len(asked) == len(QUERIES)
    assert sum("[60s]" in promql for promql in asked) == 2
    assert sum("[300s]" in promql for promql in asked) == 6


@pytest.mark.parametrize(
    ("pod", "ours"),
    [
        (PODS[0], True),
        ("llama-70b-6f7d9c8b5-abcde", False),
        ("my-llama-6f7d9c8b5-abcde", False),
        ("llama-abcde", False),
    ],
)
async def test_only_pods_of_the_deployment_are_asked_for(pod, ours):
    asked = []
    await look(asked=asked)
    for promql in asked:
        assert 'namespace="prod"' in promql
        (pattern,) = re.findall(r'pod=~"([^"]*)"', promql)
        assert bool(re.fullmatch(pattern, pod)) == ours


async def test_pods_that_are_stopping_are_welcome():
    assert (await look(pods=PODS[:1])).rate_rps == 4.0


@pytest.mark.parametrize(
    ("pods", "message"),
    [
        (["a", "b"], "missing for pod a, b: does Prometheus scrape"),
        (["d", "c", "b", "a"], "missing for pod a, b, c and others: does Prometheus scrape"),
    ],
)
async def test_a_pod_that_is_not_scraped_is_named(pods, message):
    with pytest.raises(MetricsUnavailable, match=message):
        await look(pods=[*PODS, *pods])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queue": []}, "num_requests_waiting is missing for pod"),
        ({"first_tokens": []}, "rate of vllm:time_to_first_token_seconds_count gave no series: must be one number"),
        ({"first_tokens": [({}, "NaN")]}, "rate of vllm:time_to_first_token_seconds_count gave nan"),
        ({"growth": []}, "growth of vllm:num_requests_waiting gave no series"),
        ({"growth": [({}, "+Inf")]}, "growth of vllm:num_requests_waiting gave inf"),
        ({"ttft": None}, r"query failed: too many samples: sum by \(le\) \(increase\(vllm:time_to_first_token"),
    ],
)
async def test_numbers_that_cannot_be_trusted_are_refused(changes, message):
    with pytest.raises(MetricsUnavailable, match=message):
        await look(**changes)


NOTHING_FINISHED = buckets(**{"100": 0, "+Inf": 0})


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": []},
        {"outputs": []},
        {"inputs": NOTHING_FINISHED},
        {"outputs": buckets(**{"+Inf": 0.4})},
        {"inputs": buckets(**{"100": "NaN", "+Inf": "NaN"})},
    ],
)
async def test_no_mix_before_a_request_has_finished(changes):
    found = await look(**changes)
    assert found.mix is None
    assert found.rate_rps == 4.0


@pytest.mark.parametrize("inputs", [[], NOTHING_FINISHED, buckets(**{"+Inf": "NaN"})])
async def test_nobody_has_finished(inputs):
    assert (await look(inputs=inputs)).finished_requests == 0


async def test_a_mean_that_is_not_known_leaves_the_histogram_alone():
    found = await look(input_sum=[({}, "NaN")])
    assert 100 <= found.mix.input_tokens.min() <= found.mix.input_tokens.max() <= 1000


async def test_arrivals_of_the_past_by_slot():
    def answer(request):
        form = parse_qs(request.content.decode())
        asked.append({key: values[0] for key, values in form.items()})
        values = [[1200, "30"], [1500, "NaN"], [2100, "12.5"], [99_000, "7"]]
        body = {"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": values}]}}
        return httpx.Response(200, json=body)

    asked: list[dict[str, str]] = []
    source = Prometheus("http://prometheus", transport=httpx.MockTransport(answer))
    start_s, counts = await arrivals_before(
        source, namespace="prod", deployment="llama", until_s=2399.0, slot_s=300, slots=5
    )
    assert start_s == 600.0
    assert counts.tolist() == pytest.approx([nan, 30.0, nan, nan, 12.5], nan_ok=True)
    [form] = asked
    assert (form["start"], form["end"], form["step"]) == ("900.000", "2100.000", "300")
    selector = '{namespace="prod",pod=~"llama-[a-z0-9]+-[a-z0-9]+"}'
    assert form["query"] == f"sum(increase(vllm:time_to_first_token_seconds_count{selector}[300s]))"
