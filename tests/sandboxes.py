"""Sandboxes for tests, and the programs that are run against them."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dynawatt.dashboards.rule_files import rule_files
from dynawatt.sandbox.build import ensure_built, ensure_helm
from dynawatt.sandbox.cluster import Sandbox
from dynawatt.sandbox.options import SandboxOptions


@contextmanager
def running(purpose: str, **options: Any) -> Iterator[Sandbox]:
    """A sandbox with two nodes and a name that no other has; gone afterwards."""
    name = f"test-{purpose}-{os.getpid()}-{secrets.token_hex(2)}"
    sandbox = Sandbox.up(SandboxOptions(name=name, nodes=2, **options), rules=rule_files())
    try:
        yield sandbox
    finally:
        sandbox.down()


@contextmanager
def running_bare(purpose: str) -> Iterator[Sandbox]:
    """One in which nothing of dynawatt is but what Helm puts there."""
    with running(purpose, startup_s=1, dynawatt=False, bare=True) as sandbox:
        yield sandbox


class Program:
    """kubectl or helm, against a sandbox as its administrator or against none."""

    def __init__(self, binary: Path, sandbox: Sandbox | None = None) -> None:
        self._binary = binary
        self._environment = os.environ | {"KUBECONFIG": str(sandbox.kubeconfig) if sandbox else os.devnull}

    def attempt(self, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._binary, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=240,
            env=self._environment,
            check=False,
        )

    def __call__(self, *arguments: object, stdin: str = "") -> str:
        done = self.attempt(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def get(self, *arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("get", *arguments, "--output=json"))
        return found


def kubectl_of(sandbox: Sandbox) -> Program:
    return Program(ensure_built()["kubectl"], sandbox)


def helm_of(sandbox: Sandbox | None) -> Program:
    return Program(ensure_helm()["helm"], sandbox)
