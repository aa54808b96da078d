import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import api_client

Answer = tuple[int, Any]
"""Status and body; a body that is a list is streamed as watch events, with floats as pauses in seconds."""


@pytest.fixture
def connect(tmp_path: Path) -> Callable[[str], ApiClient]:
    """A client of the API server at a URL, made from a kubeconfig file."""

    def client_of(server_url: str) -> ApiClient:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server_url}}],
            "users": [{"name": "u", "user": {"token": "secret-token"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return api_client(path)

    return client_of


@pytest.fixture
def serve(connect: Callable[[str], ApiClient]) -> Iterator[Callable[..., ApiClient]]:
    """Plays an API server with the faults that a real one shows rarely: serve(answer) gives its client.

    ``answer(handler, body)`` returns the Answer; ``handler`` has command, path and headers.
    """
    with ExitStack() as servers:
        yield lambda answer: connect(servers.enter_context(_server(answer)))


@contextmanager
def _server(answer: Callable[[BaseHTTPRequestHandler, Any], Answer]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, result = answer(self, json.loads(self.rfile.read(length)) if length else None)
            self.send_response(status)
            if isinstance(result, list):
                self._stream(result)
            else:
                payload = json.dumps(result).encode()
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

        def _stream(self, events: list[Any]) -> None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in events:
                if isinstance(part, float):
                    time.sleep(part)
                    continue
                line = json.dumps(part).encode() + b"\n"
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *args: object) -> None:
            pass  # the client hung up, as some tests want

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
