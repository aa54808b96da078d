import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dynawatt.sandbox.build import ensure_built
from dynawatt.sandbox.cluster import Sandbox
from dynawatt.sandbox.options import SandboxOptions


def _unique_name(purpose: str) -> str:
    return f"test-{purpose}-{os.getpid()}-{secrets.token_hex(2)}"


def _running(options: SandboxOptions) -> Iterator[Sandbox]:
    sandbox = Sandbox.up(options)
    try:
        yield sandbox
    finally:
        sandbox.down()


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """A control plane with nodes, Prometheus and simulated GPUs, in which no operator and no agent runs."""
    yield from _running(SandboxOptions(name=_unique_name("plain"), nodes=2, startup_s=2, dynawatt=False))


@pytest.fixture(scope="session")
def dynawatt_sandbox() -> Iterator[Sandbox]:
    """The same with operator and agents, whose loops are short."""
    yield from _running(
        SandboxOptions(
            name=_unique_name("full"),
            nodes=2,
            startup_s=2,
            plan_interval_s=5,
            observe_interval_s=1,
            rate_window_s=10,
            lease_duration_s=9,
        )
    )


class Kubectl:
    """The sandbox's own kubectl as its administrator."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._binary = ensure_built()["kubectl"]
        self._environment = os.environ | {"KUBECONFIG": str(sandbox.kubeconfig)}

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [self._binary, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            env=self._environment,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        return json.loads(self("get", *arguments, "--output=json"))


@pytest.fixture(scope="session")
def sandbox_kubectl(sandbox: Sandbox) -> Kubectl:
    return Kubectl(sandbox)


@pytest.fixture(scope="session")
def dynawatt_kubectl(dynawatt_sandbox: Sandbox) -> Kubectl:
    return Kubectl(dynawatt_sandbox)


@pytest.fixture(scope="session")
def until() -> Callable[..., Any]:
    """Wait for the first true answer and return it."""

    def wait(check: Callable[[], Any], *, within_s: float = 20.0) -> Any:
        deadline_s = time.monotonic() + within_s
        while not (answer := check()):
            assert time.monotonic() < deadline_s, f"not true within {within_s} s"
            time.sleep(0.1)
        return answer

    return wait
