"""``dynawatt doctor``: checks access and set-up, and says what to do."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import API_ERRORS, api_client, describe_error
from dynawatt.adapters.kubernetes.kubeconfig import find_kubeconfig
from dynawatt.adapters.prometheus import Prometheus, open_prometheus
from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.api.llmservice import Knob
from dynawatt.cli.doctor.check import About, Check, Outcome
from dynawatt.cli.doctor.facts import Facts, gather, server_version
from dynawatt.cli.doctor.installation import check_crds, check_policies, check_version
from dynawatt.cli.doctor.metrics import check_metrics, without_prometheus
from dynawatt.cli.doctor.page import page, to_json
from dynawatt.cli.doctor.rights import check_rights
from dynawatt.cli.doctor.running import AGENTS, OPERATOR, check_agents, check_lease, check_switch
from dynawatt.cli.doctor.services import check_services
from dynawatt.cli.layout import choose_paint
from dynawatt.cli.prometheus_options import (
    CaFile,
    Headers,
    InsecureSkipVerify,
    PasswordFile,
    TokenFile,
    Username,
    auth_from_options,
)


def doctor(
    kubeconfig: Annotated[
        Path | None, typer.Option(metavar="FILE", help="By default as kubectl's, or the pod's service account.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="Where operator and agents run.")] = DEFAULT_NAMESPACE,
    prometheus_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Prometheus that scrapes the vLLM pods, as the operator has it.")
    ] = None,
    prometheus_token_file: TokenFile = None,
    prometheus_username: Username = None,
    prometheus_password_file: PasswordFile = None,
    prometheus_ca_file: CaFile = None,
    prometheus_insecure_skip_verify: InsecureSkipVerify = False,
    prometheus_header: Headers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Check access, CRDs, rights, operator, agents, metrics and every LLMService, and say what to do.

    Changes nothing. Exit code 1 when a check failed; warnings do not count.
    """
    auth = auth_from_options(
        prometheus_token_file,
        prometheus_username,
        prometheus_password_file,
        prometheus_ca_file,
        prometheus_insecure_skip_verify,
        prometheus_header,
    )
    prometheus = None if prometheus_url is None else open_prometheus(prometheus_url, auth)
    api = api_client(find_kubeconfig(kubeconfig))
    checks = examine(api, namespace=namespace, prometheus=prometheus)
    typer.echo(json.dumps(to_json(checks), indent=1) if as_json else page(checks, choose_paint()), nl=as_json)
    if any(check.outcome is Outcome.FAILED for check in checks):
        raise typer.Exit(1)


def examine(api: ApiClient, *, namespace: str, prometheus: Prometheus | None) -> list[Check]:
    """Everything that can be looked at."""
    server = str(api.configuration.host)
    try:
        version = server_version(api)
    except API_ERRORS as error:
        message = f"{server} does not answer: {describe_error(error)}"
        remedy = "Check --kubeconfig, or $KUBECONFIG, and the network: kubectl version"
        return [About("cluster").failed("API server", message, remedy)]
    facts = gather(api, namespace=namespace, version=version)
    checks = [
        check_version(version, server),
        *check_crds(facts),
        check_policies(facts),
        check_lease(facts),
        check_switch(facts),
        *check_rights(facts.rights["operator"], about=OPERATOR, scales_shapes=_has_shapes(facts)),
        *check_agents(facts),
        *check_rights(facts.rights["agents"], about=AGENTS, scales_shapes=False),
        *check_services(facts),
        *([without_prometheus()] if prometheus is None else asyncio.run(_ask(prometheus, facts))),
    ]
    # What Prometheus knows of a service belongs to that service.
    order = list(dict.fromkeys(check.about for check in checks))
    return sorted(checks, key=lambda check: order.index(check.about))


async def _ask(prometheus: Prometheus, facts: Facts) -> list[Check]:
    try:
        return await check_metrics(prometheus, facts)
    finally:
        await prometheus.close()


def _has_shapes(facts: Facts) -> bool:
    return any(Knob.SHAPE.value in (service["spec"].get("knobs") or ()) for service in facts.services)
