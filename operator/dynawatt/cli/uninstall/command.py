"""``dynawatt uninstall give-back`` and ``clean-up``."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from dynawatt.adapters.kubernetes.client import API_ERRORS, api_client, describe_error
from dynawatt.adapters.kubernetes.kubeconfig import find_kubeconfig
from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.cli.uninstall.installed import Installed
from dynawatt.errors import OperationError

_POLL_S: Final = 2.0

_Kubeconfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="By default as kubectl's, or the pod's service account.")
]
_Namespace = Annotated[str, typer.Option(help="Where operator and agents run.")]


def give_back(
    kubeconfig: _Kubeconfig = None,
    namespace: _Namespace = DEFAULT_NAMESPACE,
    timeout_s: Annotated[float, typer.Option(min=1, help="How long to wait for it.")] = 1200,
) -> None:
    """Have the operator bring every Deployment back to its original replicas and every GPU to its default clocks.

    LLMServices stay as they are, and are taken up again when the ConfigMap dynawatt-switch is deleted.
    """
    installed = Installed(api_client(find_kubeconfig(kubeconfig)), namespace=namespace)
    _try_until(installed.switch_to_giving_back, lambda: [], timeout_s=timeout_s)
    typer.echo("ConfigMap dynawatt-switch asks the operator to give everything back")
    left = _try_until(lambda: None, installed.not_given_back, timeout_s=timeout_s)
    if left:
        raise OperationError(
            f"not given back within {timeout_s:g} s: {'; '.join(left)}; "
            "`dynawatt doctor` and `dynawatt explain NAMESPACE/NAME` say why, and with the ConfigMap dynawatt-switch "
            "deleted all goes on as before"
        )
    typer.echo("everything is given back")


def clean_up(
    kubeconfig: _Kubeconfig = None,
    namespace: _Namespace = DEFAULT_NAMESPACE,
    timeout_s: Annotated[float, typer.Option(min=1, help="How long to wait for operator and agents to end.")] = 300,
) -> None:
    """Remove what operator and agents wrote into the cluster, once they have ended; LLMServices stay.

    Their finalizers and status go, and all GPUNodes, the Lease and the ConfigMap dynawatt-switch.
    """
    installed = Installed(api_client(find_kubeconfig(kubeconfig)), namespace=namespace)
    running = _try_until(lambda: None, installed.running, timeout_s=timeout_s)
    if running:
        raise OperationError(f"still running after {timeout_s:g} s: {', '.join(running)}; end them and try again")
    _try_until(installed.clean_up, lambda: [], timeout_s=timeout_s)
    typer.echo("nothing of dynawatt is left but its definitions and the LLMServices of users")


def _try_until(act: Callable[[], None], look: Callable[[], Sequence[str]], *, timeout_s: float) -> Sequence[str]:
    """Act, then look until nothing is found or the time is over; what is found then.

    Raises OperationError when the API server does not answer at the end of it.
    """
    deadline_s = time.monotonic() + timeout_s
    told: Sequence[str] = ()
    acted = False
    while True:
        try:
            if not acted:
                act()
                acted = True
            found = look()
        except API_ERRORS as error:
            if time.monotonic() > deadline_s:
                raise OperationError(
                    f"the Kubernetes API refused or did not answer: {describe_error(error)}"
                ) from error
            typer.echo(f"trying again: {describe_error(error)}", err=True)
        else:
            if not found or time.monotonic() > deadline_s:
                return found
            if found != told:
                typer.echo(f"waiting: {'; '.join(found)}")
                told = found
        time.sleep(_POLL_S)
