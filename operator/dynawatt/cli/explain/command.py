"""``dynawatt explain``: why an LLMService is as it is, and what comes next."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from dynawatt.adapters.kubernetes.client import api_client
from dynawatt.adapters.kubernetes.kubeconfig import find_kubeconfig, present_namespace
from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.cli.explain.explanation import explain as explained
from dynawatt.cli.explain.findings import gather
from dynawatt.cli.explain.page import page
from dynawatt.cli.explain.results_json import to_json
from dynawatt.cli.layout import choose_paint
from dynawatt.errors import InvalidInputError


def explain(
    service: Annotated[str, typer.Argument(metavar="[NAMESPACE/]NAME", help="The LLMService.")],
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="By default as kubectl's, or the pod's service account.")
    ] = None,
    operator_namespace: Annotated[str, typer.Option(help="Where the operator keeps its Lease.")] = DEFAULT_NAMESPACE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same as JSON.")] = False,
) -> None:
    """Say why an LLMService is as it is: conditions with remedies, the last decision, clocks, and what comes next."""
    namespace, _, name = service.rpartition("/")
    if not name or "/" in namespace:
        raise InvalidInputError(f"{service!r}: must be NAME or NAMESPACE/NAME of an LLMService")
    kubeconfig = find_kubeconfig(kubeconfig)
    api = api_client(kubeconfig)
    found = gather(api, namespace or present_namespace(kubeconfig), name, operator_namespace=operator_namespace)
    told = explained(found, now=datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(to_json(told), indent=1))
    else:
        typer.echo(page(told, choose_paint()), nl=False)
