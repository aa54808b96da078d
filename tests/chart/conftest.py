"""One bare sandbox for everything about the chart: nothing of dynawatt is in it but what Helm puts there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dynawatt.sandbox.cluster import Sandbox

from ..sandboxes import Program, helm_of, kubectl_of, running_bare

CHART = Path(__file__).parents[2] / "charts" / "dynawatt"
NAMESPACE = "dynawatt-system"
RELEASE = "dynawatt"


@pytest.fixture(scope="session")
def dynawatt_sandbox() -> Iterator[Sandbox]:
    """In the place of the one whose operator and agents do not come from the chart."""
    with running_bare("chart") as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def dynawatt_kubectl(dynawatt_sandbox: Sandbox) -> Program:
    """Named anew with its sandbox: the others' would stay in this one for the rest of the session."""
    return kubectl_of(dynawatt_sandbox)


@pytest.fixture(scope="session")
def kubectl(dynawatt_kubectl: Program) -> Program:
    return dynawatt_kubectl


@pytest.fixture(scope="session")
def helm(dynawatt_sandbox: Sandbox) -> Program:
    return helm_of(dynawatt_sandbox)


@pytest.fixture(scope="session")
def offline_helm() -> Program:
    return helm_of(None)


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
