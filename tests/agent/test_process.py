import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dynawatt.adapters.kubernetes.client import api_client
from dynawatt.agent.journal import Journal
from dynawatt.agent.process import Settings, run_agent
from dynawatt.errors import OperationError
from dynawatt.sandbox.addresses import free_ports

from .memory_node import Node

NOBODY_ANSWERS = """
current-context: none
contexts: [{name: none, context: {cluster: none, user: none}}]
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: none, user: {token: none}}]
"""


class Running:
    """The agent of a node whose API server does not answer, in a thread."""

    def __init__(self, node: Node, directory: Path, *, port: int = 0) -> None:
        port = port or free_ports(1)[0]
        node.close()
        self.url = f"http://127.0.0.1:{port}"
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._node = node
        self._kubeconfig = directory / "kubeconfig"
        self._kubeconfig.write_text(NOBODY_ANSWERS)
        self._settings = Settings("gpu-node-0", "dynawatt-system", "127.0.0.1", port)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        journal = Journal(self._node.directory)
        try:
            run_agent(
                settings=self._settings,
                api=api_client(self._kubeconfig),
                devices=self._node.gpus,
                allocations=self._node,
                journal=journal,
                stop=self.stop,
            )
        except BaseException as error:
            self.error = error
        finally:
            journal.close()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False)

    def answers(self, path: str) -> bool:
        try:
            return self.get(path).status_code == 200
        except httpx.TransportError:
            return False

    def until_ready(self) -> None:
        deadline_s = time.monotonic() + 20.0
        while not self.answers("/readyz"):
            assert self.error is None
            assert time.monotonic() < deadline_s, "it was not ready"
            time.sleep(0.02)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(20.0)
        assert not self.thread.is_alive()


@pytest.fixture
def start(node: Node, tmp_path: Path) -> Iterator[Callable[[], Running]]:
    started: list[Running] = []

    def start() -> Running:
        started.append(Running(node, tmp_path))
        return started[-1]

    yield start
    for agent in started:
        agent.end()


@pytest.fixture
def governed(node: Node) -> Node:
    """A node whose agent has locked two GPUs."""
    node.place("a", 0, 1, claim=(345, 1200))
    node.cycle()
    assert node.locked() == [(345, 1200), (345, 1200), None, None]
    return node


def test_without_an_api_it_resets_what_the_journal_names_and_measures(governed: Node, start: Any) -> None:
    agent = start()
    agent.until_ready()
    assert governed.locked() == [None] * 4
    assert governed.journalled() == set()
    page = agent.get("/metrics").text
    assert 'dynawatt_agent_lease_fresh{node="gpu-node-0"} 0.0' in page
    assert 'dynawatt_agent_switched_off{node="gpu-node-0"} 1.0' in page
    assert page.count("dynawatt_gpu_power_watts{") == 4
    assert agent.get("/healthz").text == "ok"


def test_when_it_is_stopped_nothing_is_locked_and_its_port_is_free(governed: Node, start: Any) -> None:
    agent = start()
    agent.until_ready()
    for gpu in governed.gpus:
        gpu.calls.clear()
    agent.end()
    assert agent.error is None
    assert not agent.answers("/healthz")
    assert governed.locked() == [None] * 4
    assert [gpu.calls for gpu in governed.gpus] == [[]] * 4  # there was nothing left to reset
    Journal(governed.directory).close()  # nobody holds it any more


def test_a_port_that_is_taken_ends_it_and_still_nothing_is_locked(governed: Node, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        agent = Running(governed, tmp_path, port=taken.getsockname()[1])
        agent.thread.join(20.0)
    assert isinstance(agent.error, OperationError)
    assert "cannot serve metrics on 127.0.0.1:" in str(agent.error)
    assert "--metrics-port" in str(agent.error)
    assert governed.locked() == [None] * 4
    assert governed.journalled() == set()
