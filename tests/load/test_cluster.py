import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.load.cluster import ObjectName, ServiceEndpoints, pod_address, read_objectives
from dynawatt.workload.objectives import LatencyObjectives

SERVICE = ObjectName("prod", "llama")


def pod(name: str, *, ready: bool = True, ending: bool = False, ip: str | None = "10.0.0.1") -> dict[str, Any]:
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if ending else {}),
        },
        "spec": {
            "containers": [
                {"name": "proxy"},
                {
                    "name": "vllm",
                    "ports": [{"name": "metrics", "containerPort": 9}, {"name": "api", "containerPort": 8000}],
                },
            ]
        },
        "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


class Api:
    """Plays the few paths of an API server that are read."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self.services: dict[str, Any] = {"llama": service([{"port": 80, "targetPort": 8000}])}
        self.llmservices: dict[str, Any] = {}
        self.pods: list[dict[str, Any]] = []
        self.list_status = 200
        self.selectors: list[str | None] = []
        self.events: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    async def get(self, request: web.Request) -> web.StreamResponse:
        found = {"services": self.services, "llmservices": self.llmservices}[request.match_info["plural"]]
        name = request.match_info["name"]
        if name not in found:
            return web.json_response({"message": f"{name} not found"}, status=404)
        return web.json_response(found[name])

    async def list_pods(self, request: web.Request) -> web.StreamResponse:
        self.selectors.append(request.query.get("labelSelector"))
        if self.list_status != 200:
            return web.json_response({"message": "pods is forbidden"}, status=self.list_status)
        if "watch" not in request.query:
            metadata = {"resourceVersion": "1"}
            return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": self.pods})
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            kind, item = await self.events.get()
            await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")


def service(ports: list[dict[str, Any]], selector: dict[str, str] | None = None) -> dict[str, Any]:
    return {"spec": {"selector": {"app": "llama"} if selector is None else selector, "ports": ports}}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    api = Api(tmp_path / "kubeconfig")
    app = web.Application()
    app.router.add_get("/api/v1/namespaces/prod/pods", api.list_pods)
    app.router.add_get("/api/v1/namespaces/prod/{plural}/{name}", api.get)
    app.router.add_get("/apis/dynawatt.dev/v1alpha1/namespaces/prod/{plural}/{name}", api.get)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [cluster],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    api.kubeconfig.write_text(yaml.safe_dump(config))
    yield api
    await runner.cleanup()


def urls(endpoints: ServiceEndpoints) -> dict[str, str]:
    return {endpoint.name: endpoint.base_url for endpoint in endpoints.current()}


async def eventually(endpoints: ServiceEndpoints, names: set[str]) -> None:
    async with asyncio.timeout(5):
        while set(urls(endpoints)) != names:
            await asyncio.sleep(0.01)


async def test_follows_the_pods(api):
    api.pods = [pod("a"), pod("b", ready=False), pod("c", ending=True), pod("d", ip=None)]
    async with ServiceEndpoints(SERVICE, api.kubeconfig) as endpoints:
        assert urls(endpoints) == {"a": "http://10.0.0.1:8000"}
        assert api.selectors[0] == "app=llama"
        a = endpoints.current()[0]
        a.outstanding = 3
        api.events.put_nowait(("MODIFIED", pod("b", ip="10.0.0.2")))
        await eventually(endpoints, {"a", "b"})
        assert a in endpoints.current()  # with its count of requests
        api.events.put_nowait(("MODIFIED", pod("a", ending=True)))
        await eventually(endpoints, {"b"})
        api.events.put_nowait(("DELETED", pod("b")))
        await eventually(endpoints, set())


@pytest.mark.parametrize(
    ("ports", "address"),
    [
        ([{"port": 8000}], "10.0.0.1:8000"),
        ([{"port": 80, "targetPort": "api"}], "10.0.0.1:8000"),
        ([{"port": 80, "targetPort": "no"}], None),
        ([{"port": 9, "name": "metrics"}, {"port": 80, "name": "http", "targetPort": 8001}], "10.0.0.1:8001"),
    ],
)
async def test_port_of_the_service(api, ports, address):
    api.services["llama"] = service(ports)
    api.pods = [pod("a")]
    async with ServiceEndpoints(SERVICE, api.kubeconfig) as endpoints:
        assert list(urls(endpoints).values()) == ([f"http://{address}"] if address else [])


def test_ipv6_address():
    assert pod_address(pod("a", ip="fd00::7"), 8000) == "[fd00::7]:8000"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "--service prod/llama: does not exist; see: kubectl get services --namespace prod"),
        (service([{"port": 80}], selector={}), "selects no pods"),
        (service([{"port": 80}, {"port": 9, "name": "m"}]), "has the ports 80, m; must have one, or one that is named"),
    ],
)
async def test_service_that_cannot_be_used(api, found, message):
    api.services = {} if found is None else {"llama": found}
    with pytest.raises(InvalidInputError, match=message):
        async with ServiceEndpoints(SERVICE, api.kubeconfig):
            pass


async def test_pods_that_cannot_be_listed(api, monkeypatch):
    monkeypatch.setattr("dynawatt.load.cluster._SYNC_TIMEOUT_S", 0.3)
    api.list_status = 403
    with pytest.raises(OperationError, match="cannot be listed: 403: pods is forbidden"):
        async with ServiceEndpoints(SERVICE, api.kubeconfig):
            pass


async def test_objectives_of_an_llmservice(api):
    slo = {"interTokenMilliseconds": 100, "timeToFirstToken": [{"maxInputTokens": 256, "milliseconds": 250}]}
    slo["timeToFirstToken"].append({"milliseconds": 2000})
    api.llmservices["llama"] = {"spec": {"deploymentRef": {"name": "llama"}, "slo": slo}}
    found = await read_objectives(SERVICE, api.kubeconfig)
    assert found == LatencyObjectives(((256, 0.25), (None, 2.0)), 0.1)
    with pytest.raises(InvalidInputError, match="--llmservice prod/no: does not exist"):
        await read_objectives(ObjectName("prod", "no"), api.kubeconfig)


@pytest.mark.parametrize("text", ["llama", "/llama", "prod/", "a/b/c", ""])
def test_impossible_names(text):
    with pytest.raises(InvalidInputError, match=f"--service {text}: must be NAMESPACE/NAME"):
        ObjectName.parse("--service", text)
