"""One bare sandbox for everything about the chart: nothing of dynawatt is in it but what Helm puts there."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynawatt.sandbox.build import ensure_built, ensure_helm
from dynawatt.sandbox.cluster import Sandbox
from dynawatt.sandbox.options import SandboxOptions

CHART = Path(__file__).parents[2] / "charts" / "dynawatt"
NAMESPACE = "dynawatt-system"
RELEASE = "dynawatt"


class Program:
    """helm or kubectl, against a sandbox or none."""

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


@pytest.fixture(scope="session")
def dynawatt_sandbox() -> Iterator[Sandbox]:
    """In the place of the one whose operator and agents do not come from the chart."""
    name = f"test-chart-{os.getpid()}-{secrets.token_hex(2)}"
    sandbox = Sandbox.up(SandboxOptions(name=name, nodes=2, startup_s=1, dynawatt=False, bare=True))
    try:
        yield sandbox
    finally:
        sandbox.down()


@pytest.fixture(scope="session")
def dynawatt_kubectl(dynawatt_sandbox: Sandbox) -> Program:
    return Program(ensure_built()["kubectl"], dynawatt_sandbox)


@pytest.fixture(scope="session")
def kubectl(dynawatt_kubectl: Program) -> Program:
    return dynawatt_kubectl


@pytest.fixture(scope="session")
def helm(dynawatt_sandbox: Sandbox) -> Program:
    return Program(ensure_helm()["helm"], dynawatt_sandbox)


@pytest.fixture(scope="session")
def offline_helm() -> Program:
    return Program(ensure_helm()["helm"])


@pytest.fixture(scope="session")
def render(offline_helm: Program):
    """The documents that Helm makes of values, given as ``key=value`` each in the syntax of --set."""

    def rendered(*values: str, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
        sets = [word for value in values for word in ("--set", value)]
        text = offline_helm("template", RELEASE, CHART, f"--namespace={namespace}", *sets)
        return [document for document in yaml.safe_load_all(text) if document]

    return rendered


@pytest.fixture(scope="session")
def all_values() -> list[str]:
    """Everything that can be switched on."""
    return [
        "operator.shapeNamespaces={default}",
        "operator.persistence.enabled=true",
        "operator.watchNamespaces={team-*}",
        "prometheus.url=https://prometheus:9090",
        "prometheus.secret.name=access",
        "prometheus.secret.keys={token}",
        "networkPolicy.enabled=true",
        "dashboards.enabled=true",
        "agent.clocks.privileged=true",
    ]
