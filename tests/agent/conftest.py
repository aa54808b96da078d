import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .memory_node import Node, claim_text


@pytest.fixture
def new_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Node]]:
    """Makes nodes whose agent has seen nothing; disks are those of the newest."""
    numbers = itertools.count()
    nodes: list[Node] = []

    def flush(_: int) -> None:
        nodes[0].flush()

    def make(gpu_count: int = 4) -> Node:
        for node in nodes:
            node.close()
        nodes[:] = [Node(tmp_path / str(next(numbers)), gpu_count)]
        return nodes[0]

    monkeypatch.setattr(os, "fsync", flush)
    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def node(new_node: Callable[..., Node]) -> Node:
    """A node whose agent has seen a fresh Lease and no pods."""
    node = new_node()
    node.cycle()
    node.cycle()
    return node


@pytest.fixture(name="claim_text")
def claim_text_fixture() -> Callable[..., str]:
    return claim_text
