"""The options with which commands reach a Prometheus that does not let everybody in."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dynawatt.adapters.prometheus_auth import PrometheusAuth, parse_headers

TokenFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--prometheus-token-file", metavar="FILE", help="Bearer token for Prometheus; read again when used."),
]
Username: TypeAlias = Annotated[
    str | None, typer.Option("--prometheus-username", metavar="NAME", help="User for Prometheus; with a password file.")
]
PasswordFile: TypeAlias = Annotated[
    Path | None, typer.Option("--prometheus-password-file", metavar="FILE", help="That user's password.")
]
CaFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--prometheus-ca-file", metavar="FILE", help="Certificate authorities to trust for Prometheus, PEM."),
]
InsecureSkipVerify: TypeAlias = Annotated[
    bool,
    typer.Option("--prometheus-insecure-skip-verify", help="Do not verify the certificate of Prometheus: for tests."),
]
Headers: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--prometheus-header", metavar="LINE", help="Sent to Prometheus, such as 'X-Scope-OrgID: tenant'; repeatable."
    ),
]


def auth_from_options(
    token_file: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
    insecure_skip_verify: bool,
    headers: list[str] | None,
) -> PrometheusAuth:
    """Raises InvalidInputError when they contradict each other."""
    return PrometheusAuth(
        token_file=token_file,
        username=username,
        password_file=password_file,
        ca_file=ca_file,
        insecure_skip_verify=insecure_skip_verify,
        headers=parse_headers(headers or ()),
    )
