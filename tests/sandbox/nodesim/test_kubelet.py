import asyncio
import json
import time
from datetime import UTC, datetime

import aiohttp
import pytest

from dynawatt.perfmodel.gpus import H100_SXM
from dynawatt.sandbox.nodesim.gpus import SimulatedGpu
from dynawatt.sandbox.nodesim.kubelet import PodRunner, pre_stop_s

from .conftest import HOST, MODEL, free_port


class RecordingWriter:
    def __init__(self):
        self.deleted = asyncio.Event()
        self.warnings = []

    async def delete(self, pod, uid):
        assert (str(pod), uid) == ("default/llama-0", "uid-0")
        self.deleted.set()

    async def warn(self, pod, uid, reason, message):
        self.warnings.append((reason, message))


class Lab:
    """A pod whose object the test changes like the API server would."""

    def __init__(self, args=(), lifecycle=None, model=MODEL):
        self.port = free_port()
        container = {
            "name": "vllm",
            "image": "vllm/vllm-openai:v0.32.0",
            "args": [model, "--port", str(self.port), *args],
            "lifecycle": lifecycle or {},
        }
        self.pod = {
            "metadata": {"namespace": "default", "name": "llama-0", "uid": "uid-0"},
            "spec": {"containers": [container]},
        }
        self.writer = RecordingWriter()
        gpu = SimulatedGpu(uuid="GPU-0", spec=H100_SXM, now_s=asyncio.get_running_loop().time())
        self.runner = PodRunner(self.pod, gpus=[gpu], writer=self.writer)

    def status(self, *, ready):
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        self._update(status={"phase": "Running", "podIP": HOST, "conditions": [condition]})

    def delete(self, grace_s):
        deadline = datetime.fromtimestamp(time.time() + grace_s, UTC).isoformat()
        self._update(metadata={**self.pod["metadata"], "deletionTimestamp": deadline})

    def _update(self, **fields):
        self.pod = {**self.pod, **fields}
        self.runner.update(self.pod)

    async def get(self, path="/health"):
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://{HOST}:{self.port}{path}") as response,
        ):
            return response.status, await response.text()

    async def until(self, status):
        async with asyncio.timeout(3):
            while True:
                try:
                    if (await self.get())[0] == status:
                        return
                except aiohttp.ClientError:
                    if status is None:
                        return
                await asyncio.sleep(0.01)

    async def stream(self, max_tokens, begun):
        reasons = []
        body = {"prompt": "one", "max_tokens": max_tokens, "stream": True}
        url = f"http://{HOST}:{self.port}/v1/completions"
        async with aiohttp.ClientSession() as http, http.post(url, json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    begun.set()
                    reasons.append(json.loads(line[6:])["choices"][0]["finish_reason"])
        return reasons


@pytest.fixture
async def lab():
    labs = []

    def create(*args, **fields):
        labs.append(Lab(*args, **fields))
        return labs[-1]

    yield create
    for made in labs:
        await made.runner.gone()


async def serving(lab, *args, **fields):
    made = lab(*args, **fields)
    made.status(ready=True)
    await made.until(200)
    begun = asyncio.Event()
    return made, begun


async def test_refuses_until_ready_and_ends_when_the_object_is_gone(lab):
    pod = lab()
    pod.status(ready=False)
    await pod.until(503)
    pod.status(ready=True)
    await pod.until(200)
    await pod.runner.gone()
    await pod.until(None)
    assert not pod.writer.deleted.is_set()


async def test_deletion_without_drain_aborts_and_frees_the_pod_early(lab):
    pod, begun = await serving(lab)
    stream = asyncio.create_task(pod.stream(10_000, begun))
    await begun.wait()
    pod.delete(grace_s=30)
    async with asyncio.timeout(3):
        await pod.writer.deleted.wait()
    assert (await stream)[-1] == "abort"
    await pod.until(None)


async def test_deletion_with_drain_lets_requests_finish(lab):
    pod, begun = await serving(lab, ["--shutdown-timeout", "20"])
    stream = asyncio.create_task(pod.stream(60, begun))
    await begun.wait()
    pod.delete(grace_s=30)
    assert await stream == [None] * 59 + ["length"]
    async with asyncio.timeout(3):
        await pod.writer.deleted.wait()


async def test_pre_stop_hook_serves_on_before_the_end(lab):
    pod, _ = await serving(lab, lifecycle={"preStop": {"sleep": {"seconds": 1}}})
    pod.delete(grace_s=30)
    await asyncio.sleep(0.3)
    assert (await pod.get())[0] == 200
    assert await pod.stream(3, asyncio.Event()) == [None, None, "length"]
    assert not pod.writer.deleted.is_set()
    async with asyncio.timeout(3):
        await pod.writer.deleted.wait()


async def test_the_end_of_the_grace_period_breaks_connections(lab):
    pod, begun = await serving(lab, ["--shutdown-timeout", "60"])
    stream = asyncio.create_task(pod.stream(10_000, begun))
    await begun.wait()
    pod.delete(grace_s=0.4)
    with pytest.raises(aiohttp.ClientError):
        await stream
    await pod.writer.deleted.wait()


async def test_a_second_deletion_may_shorten_the_grace_period(lab):
    pod, begun = await serving(lab, ["--shutdown-timeout", "60"])
    stream = asyncio.create_task(pod.stream(10_000, begun))
    await begun.wait()
    pod.delete(grace_s=60)
    await asyncio.sleep(0.1)
    pod.delete(grace_s=0.1)
    with pytest.raises(aiohttp.ClientError):
        await stream


@pytest.mark.parametrize("running", [False, True])
async def test_deletion_before_ready_ends_at_once(lab, running):
    pod = lab(lifecycle={"preStop": {"sleep": {"seconds": 0}}})
    if running:
        pod.status(ready=False)
        await pod.until(503)
    pod.delete(grace_s=30)
    async with asyncio.timeout(2):
        await pod.writer.deleted.wait()


@pytest.mark.parametrize(
    ("args", "model", "reason", "message"),
    [
        ((), "mistralai/Mistral-7B", "EngineStartFailed", "no profile for model"),
        (("-tp", "8"), MODEL, "EngineStartFailed", "the pod has 1 GPUs"),
    ],
)
async def test_a_replica_that_cannot_start_says_why(lab, args, model, reason, message):
    pod = lab(args, model=model)
    pod.status(ready=True)
    await pod.until(503)
    assert message in (await pod.get())[1]
    [(given, text)] = pod.writer.warnings
    assert given == reason
    assert message in text


@pytest.mark.parametrize(
    ("hook", "sleep_s"),
    [
        ({"sleep": {"seconds": 15}}, 15),
        ({"exec": {"command": ["sleep", "7"]}}, 7),
        ({"exec": {"command": ["/bin/sleep", "7.5"]}}, 7.5),
        ({"exec": {"command": ["/bin/sh", "-c", "sleep 10"]}}, 10),
        ({"exec": {"command": ["sh", "-c", "exec sleep 10s"]}}, 10),
        ({"exec": {"command": ["/drain.sh"]}}, 0),
        ({"httpGet": {"path": "/"}}, 0),
    ],
)
def test_pre_stop(hook, sleep_s):
    assert pre_stop_s({"lifecycle": {"preStop": hook}}) == sleep_s
    assert pre_stop_s({}) == 0
