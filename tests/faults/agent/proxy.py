"""A TCP proxy between an agent and the API server that can be cut."""

import contextlib
import selectors
import socket
import threading
from enum import Enum, auto
from pathlib import Path
from urllib.parse import urlsplit

import yaml

_CHUNK_BYTES = 65536


class Line(Enum):
    """How the way to the API server is."""

    OPEN = auto()
    REFUSED = auto()
    """Connections are reset, new ones too."""
    SILENT = auto()
    """Connections stay, but nothing arrives any more, not even when the line is open again: for new ones only."""


class Proxy:
    """Forwards to one address until closed; ``line`` may be set at any time."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._line = Line.OPEN
        self._pairs: set[_Pair] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="proxy")
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def set(self, line: Line) -> None:
        """From now on."""
        with self._lock:
            self._line = line
            if line is Line.REFUSED:
                for pair in self._pairs:
                    pair.close()
                self._pairs.clear()
            elif line is Line.SILENT:
                for pair in self._pairs:
                    pair.silent = True

    def close(self) -> None:
        """End it and all connections."""
        self.set(Line.REFUSED)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._line is Line.REFUSED:
                    client.close()
                    continue
                try:
                    pair = _Pair(client, socket.create_connection(self._target), silent=self._line is Line.SILENT)
                except OSError:
                    client.close()
                    continue
                self._pairs.add(pair)


def proxied(kubeconfig: Path, copy: Path) -> tuple[Proxy, Path]:
    """A proxy to the API server of a kubeconfig, and a copy of the kubeconfig that goes through it."""
    content = yaml.safe_load(kubeconfig.read_text())
    [entry] = content["clusters"]
    server = urlsplit(entry["cluster"]["server"])
    proxy = Proxy(str(server.hostname), server.port or 443)
    entry["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"  # an address for which the certificate stands
    copy.write_text(yaml.safe_dump(content))
    copy.chmod(0o600)
    return proxy, copy


class _Pair:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket, *, silent: bool) -> None:
        self.silent = silent
        self._peers = {client: server, server: client}
        threading.Thread(target=self._forward, daemon=True, name="proxy pair").start()

    def close(self) -> None:
        """Break both ends."""
        for end in self._peers:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _forward(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            for end in self._peers:
                selector.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    data = key.fileobj.recv(_CHUNK_BYTES)
                    if not data:
                        raise ConnectionAbortedError
                    if not self.silent:
                        self._peers[key.fileobj].sendall(data)
        self.close()
        for end in self._peers:
            end.close()
