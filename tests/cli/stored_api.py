"""An API server on loopback that serves stored objects, and refuses what tests want refused."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

_ROOTS = {
    "LLMService": "/apis/dynawatt.dev/v1alpha1{scope}/llmservices",
    "GPUNode": "/apis/dynawatt.dev/v1alpha1/gpunodes",
    "Deployment": "/apis/apps/v1{scope}/deployments",
    "Pod": "/api/v1{scope}/pods",
    "Lease": "/apis/coordination.k8s.io/v1{scope}/leases",
    "ConfigMap": "/api/v1{scope}/configmaps",
    "Event": "/api/v1{scope}/events",
    "Node": "/api/v1/nodes",
}


class StoredApi:
    """Objects by kind; selectors are heeded for labels that must be equal."""

    def __init__(self) -> None:
        self.objects: list[dict[str, Any]] = []
        self.refused: dict[str, int] = {}
        """Status by a part of the path."""
        self.installed = set(_ROOTS)
        self.asked: list[str] = []

    def add(self, kind: str, *objects: dict[str, Any]) -> None:
        self.objects += [found | {"kind": kind} for found in objects]

    def answer(self, path: str, labels: dict[str, str]) -> tuple[int, Any]:
        self.asked.append(path)
        for part, status in self.refused.items():
            if part in path:
                return status, {"message": f"no {part} for you"}
        if path == "/version":
            return 200, {"gitVersion": "v1.36.3"}
        kinds = [kind for kind in self.installed if _matches(_ROOTS[kind], path) is not None]
        if not kinds:
            return 404, {"message": "the server could not find the requested resource"}
        namespace, name = _matches(_ROOTS[kinds[0]], path) or ("", "")
        found = [
            each
            for each in self.objects
            if each["kind"] == kinds[0]
            and namespace in ("", each["metadata"].get("namespace", ""))
            and labels.items() <= (each["metadata"].get("labels") or {}).items()
        ]
        if not name:
            return 200, {"items": found}
        named = [each for each in found if each["metadata"]["name"] == name]
        return (200, named[0]) if named else (404, {"message": f'"{name}" not found'})


def _matches(root: str, path: str) -> tuple[str, str] | None:
    """Namespace and name in a path below a root."""
    head, _, tail = root.partition("{scope}")
    if not path.startswith(head):
        return None
    rest, namespace = path.removeprefix(head), ""
    if rest.startswith("/namespaces/"):
        _, _, namespace, rest = rest.split("/", 3)
        rest = f"/{rest}"
    if rest != tail and not rest.startswith(f"{tail}/"):
        return None
    return namespace, rest.removeprefix(tail).lstrip("/")


@contextmanager
def serving(api: StoredApi, directory: Path, *, namespace: str = "prod") -> Iterator[Path]:
    """A kubeconfig file whose context has a namespace, for as long as the server runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            wanted = [part.removeprefix("labelSelector=") for part in query.split("&") if "labelSelector=" in part]
            labels = dict(term.split("%3D") for term in wanted if "%3D" in term)
            self._send(*api.answer(path, labels))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = api.answer(self.path, {})
            self._send(*((200, {"status": {"allowed": True, "userInfo": {}}}) if status == 404 else (status, body)))

        def _send(self, status: int, body: Any) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    path = directory / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
                "current-context": "x",
            }
        )
    )
    try:
        yield path
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
