import asyncio
import re

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import MODEL

LONG = 100_000  # tokens nobody waits for


async def metric(pod, name, **labels):
    status, text = await pod.get("/metrics")
    assert status == 200
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    raise AssertionError(f"no {name} {labels}")


async def test_completion(pod):
    status, body = await pod.post(prompt="one two three", max_tokens=4)
    assert status == 200
    assert body["object"] == "text_completion"
    assert body["choices"][0]["finish_reason"] == "length"
    assert len(body["choices"][0]["text"].split()) == 4
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


async def test_token_id_prompts_count_exactly(pod):
    _, body = await pod.post(prompt=[0] * 1234, max_tokens=1)
    assert body["usage"]["prompt_tokens"] == 1234


async def test_completion_stream_has_one_event_per_token(pod):
    events = await pod.stream(max_tokens=6, stream_options={"include_usage": True}, ignore_eos=True)
    *tokens, usage, done = events
    assert done == "[DONE]"
    assert [event["choices"][0]["text"] for event in tokens] == [" token"] * 6
    assert [event["choices"][0]["finish_reason"] for event in tokens] == [None] * 5 + ["length"]
    assert len({event["id"] for event in tokens}) == 1
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize("max_tokens", [1, 2, 5])
async def test_chat_stream_opens_with_the_role(pod, max_tokens):
    messages = [{"role": "user", "content": "one two"}, {"role": "user", "content": [{"type": "text", "text": "3"}]}]
    events = await pod.stream("/v1/chat/completions", messages=messages, max_tokens=max_tokens)
    opening, *tokens, done = events
    assert done == "[DONE]"
    assert opening["object"] == "chat.completion.chunk"
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [event["choices"][0]["delta"]["content"] for event in tokens] == [" token"] * max_tokens
    assert tokens[-1]["choices"][0]["finish_reason"] == "length"


async def test_chat_completion(pod):
    status, body = await pod.post("/v1/chat/completions", messages=[{"role": "user", "content": "a b c d"}])
    assert status == 200
    assert body["choices"][0]["message"] == {"role": "assistant", "content": " token" * 5}
    assert body["usage"]["prompt_tokens"] == 4


@pytest.mark.parametrize(
    ("fields", "status", "message"),
    [
        ({"model": "other"}, 404, "`other` does not exist"),
        ({"max_tokens": 0}, 400, "`max_tokens` must be at least 1"),
        ({"max_tokens": "many"}, 400, "`max_tokens`"),
        ({"max_tokens": 8192}, 400, "maximum context length is 8192"),
        ({"min_tokens": 6}, 400, "`min_tokens`"),
        ({"prompt": ["a", "b"]}, 400, "`prompt`"),
        ({"prompt": []}, 400, "`prompt`"),
        ({"prompt": {"a": 1}}, 400, "`prompt`"),
        ({"n": 2}, 400, "`n`"),
    ],
)
async def test_refusals_in_openai_form(start_pod, fields, status, message):
    pod = await start_pod(max_model_len=8192)
    got, body = await pod.post(**fields)
    assert got == status
    assert message in body["error"]["message"]
    assert body["error"]["code"] == status


async def test_body_that_is_not_json(pod):
    async with pod.http.post(pod.url + "/v1/completions", data=b"{") as response:
        assert response.status == 400
        assert "not JSON" in (await response.json())["error"]["message"]


async def test_information_endpoints(start_pod):
    pod = await start_pod(served_model_names=("small", "llama"), max_model_len=4096)
    async with pod.http.get(pod.url + "/v1/models") as response:
        models = (await response.json())["data"]
    assert [(model["id"], model["root"], model["max_model_len"]) for model in models] == [
        ("small", MODEL, 4096),
        ("llama", MODEL, 4096),
    ]
    assert await pod.get("/health") == (200, "")
    assert await pod.get("/load") == (200, '{"server_load": 0}')
    assert (await pod.get("/version"))[0] == 200
    assert (await pod.get("/nothing"))[0] == 404


async def test_the_context_is_the_models_own(start_pod):
    pod = await start_pod(model="meta-llama/Meta-Llama-3-8B")
    async with pod.http.get(pod.url + "/v1/models") as response:
        assert [model["max_model_len"] for model in (await response.json())["data"]] == [8192]


async def test_eight_bit_weights_leave_more_room_for_the_kv_cache(start_pod):
    async def kv_tokens(pod):
        _, text = await pod.get("/metrics")
        return int(re.search(r'kv_cache_size_tokens="(\d+)"', text)[1])

    plain, small = [await start_pod(quantization=quantization) for quantization in (None, "fp8")]
    # Half of eight billion parameters' 16 GB, at 131,072 bytes a token; embeddings stay as they are.
    assert 45_000 < await kv_tokens(small) - await kv_tokens(plain) < 61_000
    assert (await small.post())[0] == 200


async def test_refuses_everything_while_loading(start_pod):
    pod = await start_pod(ready=False)
    assert (await pod.post())[0] == 503
    assert [(await pod.get(path))[0] for path in ("/health", "/v1/models", "/metrics")] == [503] * 3
    pod.server.serve()
    assert (await pod.get("/health"))[0] == 200
    assert (await pod.post())[0] == 200


async def test_a_client_that_hears_of_ready_first_is_served(start_pod):
    pod = await start_pod(ready=False)
    early = asyncio.create_task(pod.post())
    await asyncio.sleep(0.1)
    pod.server.serve()
    assert (await early)[0] == 200


async def test_metrics_tell_the_truth(pod):
    await asyncio.gather(*(pod.stream(prompt=[1] * 100, max_tokens=20) for _ in range(5)))
    assert await metric(pod, "vllm:prompt_tokens_total", model_name=MODEL) == 500
    assert await metric(pod, "vllm:prompt_tokens_by_source_total", source="local_compute") == 500
    assert await metric(pod, "vllm:generation_tokens_total") == 100
    assert await metric(pod, "vllm:request_success_total", finished_reason="length") == 5
    assert await metric(pod, "vllm:time_to_first_token_seconds_count") == 5
    assert await metric(pod, "vllm:inter_token_latency_seconds_count") == 95
    gaps_s = await metric(pod, "vllm:inter_token_latency_seconds_sum")
    decode_s = await metric(pod, "vllm:request_decode_time_seconds_sum")
    assert gaps_s == pytest.approx(decode_s)
    assert 0.005 < gaps_s / 95 < 0.05
    assert await metric(pod, "vllm:num_requests_running") == 0
    assert await metric(pod, "vllm:kv_cache_usage_perc") == 0
    assert await metric(pod, "http_requests_total", handler="/v1/completions", status="2xx") == 5


async def test_gauges_while_requests_run(start_pod):
    pod = await start_pod(max_num_seqs=2)
    streams = [asyncio.create_task(pod.stream(max_tokens=LONG)) for _ in range(3)]
    await asyncio.sleep(0.2)
    assert await metric(pod, "vllm:num_requests_running") == 2
    assert await metric(pod, "vllm:num_requests_waiting") == 1
    assert await metric(pod, "vllm:num_requests_waiting_by_reason", reason="capacity") == 1
    assert 0 < await metric(pod, "vllm:kv_cache_usage_perc") < 0.01
    for stream in streams:
        stream.cancel()


async def test_a_client_that_leaves_aborts_its_request(pod):
    stream = asyncio.create_task(pod.stream(max_tokens=LONG))
    await asyncio.sleep(0.2)
    assert pod.served.replica.jobs == 1
    stream.cancel()
    async with asyncio.timeout(2):
        await pod.served.replica.drained()
    assert await metric(pod, "vllm:request_success_total", finished_reason="abort") == 1
    assert await metric(pod, "vllm:num_requests_running") == 0


async def test_ending_without_timeout_aborts_at_once(pod):
    streams = [asyncio.create_task(pod.stream(max_tokens=LONG)) for _ in range(2)]
    whole = asyncio.create_task(pod.post(max_tokens=LONG))
    await asyncio.sleep(0.2)
    async with asyncio.timeout(1.5):
        await pod.server.end(0)
    for stream in streams:
        *tokens, last, done = await stream
        assert tokens
        assert done == "[DONE]"
        assert last["choices"][0] | {"text": ""} == last["choices"][0]
        assert last["choices"][0]["finish_reason"] == "abort"
    status, body = await whole
    assert (status, body["choices"][0]["finish_reason"]) == (200, "abort")
    with pytest.raises(aiohttp.ClientConnectorError):
        await pod.get("/health")


async def test_ending_with_timeout_lets_requests_finish_and_refuses_new_ones(pod):
    begun = asyncio.Event()
    stream = asyncio.create_task(pod.stream(max_tokens=40, on_event=lambda _: begun.set()))
    await begun.wait()
    ending = asyncio.create_task(pod.server.end(30))
    await asyncio.sleep(0.05)
    status, body = await pod.post()
    assert (status, body["error"]["type"]) == (503, "ServiceUnavailableError")
    assert (await pod.get("/metrics"))[0] == 200
    events = await stream
    assert len(events) == 41
    assert events[-2]["choices"][0]["finish_reason"] == "length"
    async with asyncio.timeout(3):
        await ending


async def test_ending_aborts_when_the_timeout_is_over(pod):
    stream = asyncio.create_task(pod.stream(max_tokens=LONG))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(3):
        await pod.server.end(0.3)
    assert (await stream)[-2]["choices"][0]["finish_reason"] == "abort"


async def test_killing_breaks_connections(pod):
    stream = asyncio.create_task(pod.stream(max_tokens=LONG))
    await asyncio.sleep(0.1)
    await pod.server.kill()
    with pytest.raises(aiohttp.ClientError):
        await stream


async def test_watts_follow_the_work_and_the_clock(pod):
    def power_w():
        return pod.gpus[0].read(asyncio.get_running_loop().time()).power_w

    idle_w = power_w()
    stream = asyncio.create_task(pod.stream(prompt=[1] * 50, max_tokens=LONG))
    await asyncio.sleep(0.2)
    running_w = power_w()
    assert running_w > idle_w + 50
    pod.gpus[0].lock(asyncio.get_running_loop().time(), 345, 600)
    await asyncio.sleep(0.2)
    assert idle_w < power_w() < running_w - 30
    stream.cancel()
    await pod.served.replica.drained()
    await asyncio.sleep(0.1)
    assert power_w() < idle_w


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "mistralai/Mistral-7B"}, "no profile for model"),
        ({"tensor_parallel_size": 3}, "tensor parallelism 3"),
        ({"model": "meta-llama/Llama-3.1-70B", "tensor_parallel_size": 1}, "does not fit"),
        ({"max_model_len": 200_000}, "--max-model-len is 200000"),
        ({"quantization": "awq"}, "no profile for weights in awq"),
        ({"dtype": "float32"}, "no profile for --dtype float32"),
        ({"max_num_batched_tokens": 10**6}, "--max-num-batched-tokens is 1000000"),
        ({"max_num_seqs": 4096}, "--max-num-seqs is 4096"),
        ({"max_num_batched_tokens": 64, "max_num_seqs": 65}, "must be at least --max-num-seqs"),
        ({"pipeline_parallel_size": 2}, "pipeline"),
    ],
)
async def test_what_real_vllm_or_the_profiles_refuse(start_pod, settings, message):
    with pytest.raises(ValueError, match=message):
        await start_pod(**settings)
