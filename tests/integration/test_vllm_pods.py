import json
import threading
import time

import httpx
import pytest

from dynawatt.adapters.kubernetes.client import api_client, request_json, resource_path

pytestmark = pytest.mark.integration

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
DEPLOYMENTS = resource_path("apps/v1", "deployments", namespace="default")
PODS = resource_path("v1", "pods", namespace="default")


def deployment(name, *args, model=MODEL):
    labels = {"app": name}
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.32.0",
        "args": ["--model", model, "--tensor-parallel-size", "2", *args],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"limits": {"nvidia.com/gpu": "2"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


@pytest.fixture(scope="module")
def api(sandbox):
    return api_client(sandbox.kubeconfig)


@pytest.fixture
def apply(api):
    """Create Deployments that are gone, with their pods, when the test ends."""
    created = []

    def create(name, *args, **fields):
        request_json(api, "POST", DEPLOYMENTS, body=deployment(name, *args, **fields))
        created.append(name)

    yield create
    for name in created:
        options = {"propagationPolicy": "Background"}
        request_json(api, "DELETE", f"{DEPLOYMENTS}/{name}", body=options)
    for name in created:
        wait(lambda name=name: not pods(api, name))


def pods(api, name):
    return request_json(api, "GET", PODS, query={"labelSelector": f"app={name}"})["items"]


def wait(condition, timeout_s=60):
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not so after {timeout_s} s")


def ready_pod(api, name):
    def find():
        for pod in pods(api, name):
            conditions = pod.get("status", {}).get("conditions", [])
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                return pod
        return None

    return wait(find)


def serving_url(api, name):
    """The pod and its address once its server takes requests too: it hears of Ready a moment later."""
    pod = ready_pod(api, name)
    url = f"http://{pod['status']['podIP']}:8000"
    wait(lambda: httpx.get(f"{url}/health").status_code == 200, timeout_s=5)
    return pod, url


class Stream(threading.Thread):
    """A streaming completion read in the background."""

    def __init__(self, url, max_tokens):
        super().__init__()
        self.begun = threading.Event()
        self.reasons = []
        self._url = url
        self._body = {"model": MODEL, "prompt": [0] * 50, "max_tokens": max_tokens, "stream": True}

    def run(self):
        with httpx.stream("POST", f"{self._url}/v1/completions", json=self._body, timeout=60) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    self.reasons.append(json.loads(line[6:])["choices"][0]["finish_reason"])
                    self.begun.set()


def delete_during_a_stream(api, name, max_tokens):
    pod, url = serving_url(api, name)
    stream = Stream(url, max_tokens)
    stream.start()
    assert stream.begun.wait(10)
    metadata = pod["metadata"]
    request_json(api, "DELETE", f"{PODS}/{metadata['name']}", body={"preconditions": {"uid": metadata["uid"]}})
    stream.join(30)
    wait(lambda: metadata["uid"] not in {other["metadata"]["uid"] for other in pods(api, name)}, timeout_s=10)
    return stream.reasons


def test_a_pod_streams_from_its_own_address(api, apply):
    apply("streams")
    _, url = serving_url(api, "streams")
    stream = Stream(url, 10)
    stream.start()
    stream.join(30)
    assert stream.reasons == [None] * 9 + ["length"]
    metrics = httpx.get(f"{url}/metrics").text
    assert f'vllm:generation_tokens_total{{engine="0",model_name="{MODEL}"}} 10.0' in metrics


def test_deletion_aborts_what_is_in_flight_by_default(api, apply):
    apply("aborts")
    reasons = delete_during_a_stream(api, "aborts", max_tokens=20_000)
    assert reasons[-1] == "abort"
    assert set(reasons[:-1]) == {None}


def test_deletion_with_shutdown_timeout_drains(api, apply):
    apply("drains", "--shutdown-timeout", "20")
    assert delete_during_a_stream(api, "drains", max_tokens=300) == [None] * 299 + ["length"]


def test_an_unknown_model_never_serves_and_says_why(api, apply):
    apply("unknown", model="mistralai/Mistral-7B-v0.3")
    pod = ready_pod(api, "unknown")
    refusal = wait(lambda: httpx.get(f"http://{pod['status']['podIP']}:8000/health"), timeout_s=5)
    assert refusal.status_code == 503
    assert "no profile for model" in refusal.text
    events = resource_path("v1", "events", namespace="default")
    query = {"fieldSelector": f"involvedObject.uid={pod['metadata']['uid']},reason=EngineStartFailed"}
    [event] = wait(lambda: request_json(api, "GET", events, query=query)["items"], timeout_s=5)
    assert event["type"] == "Warning"
    assert "mistralai/Mistral-7B-v0.3" in event["message"]
