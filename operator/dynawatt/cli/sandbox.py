"""``dynawatt sandbox``: a real Kubernetes control plane on this machine, without containers or root."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

from dynawatt.cli.sandbox_view import show_progress, status_table
from dynawatt.dashboards.rule_files import rule_files
from dynawatt.sandbox.build import ensure_built, ensure_helm
from dynawatt.sandbox.cluster import Sandbox, bring_down
from dynawatt.sandbox.driver.build import ensure_driver
from dynawatt.sandbox.options import GPU_CLASSES, SandboxOptions
from dynawatt.sandbox.state import existing_names

_Name = Annotated[str, typer.Option("--name", help="Name of the sandbox; several can run side by side.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_DEFAULTS = SandboxOptions()


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        no_args_is_help=True,
        help="A real Kubernetes control plane on this machine, with simulated GPU nodes and vLLM pods.",
    )
    group.command("build")(build)
    group.command("up")(up)
    group.command("status")(status)
    group.command("down")(down)
    group.command("kubeconfig")(kubeconfig)
    # Everything after the command's own options belongs to kubectl or helm.
    for command in (kubectl, helm):
        group.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})(command)
    app.add_typer(group, name="sandbox")


def build(
    with_helm: Annotated[bool, typer.Option("--helm", help="Also helm and helm-unittest, for the chart.")] = False,
) -> None:
    """Build the control plane's programs into the user's cache; at once when they are there."""
    with show_progress() as progress, _terminable():
        ensure_built(progress)
        if with_helm:
            ensure_helm(progress)
        ensure_driver(progress)


def up(
    *,
    name: _Name = _DEFAULTS.name,
    nodes: Annotated[int, typer.Option(help="Number of GPU nodes.")] = _DEFAULTS.nodes,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs of each node.")] = _DEFAULTS.gpus_per_node,
    gpu: Annotated[str, typer.Option(help=f"Kind of GPU: {', '.join(GPU_CLASSES)}.")] = _DEFAULTS.gpu,
    startup_s: Annotated[
        int, typer.Option(help="Seconds from a pod's start until it is Ready (model loading).")
    ] = _DEFAULTS.startup_s,
    dynawatt: Annotated[
        bool, typer.Option("--dynawatt/--no-dynawatt", help="Also run the operator and one agent per node.")
    ] = _DEFAULTS.dynawatt,
    bare: Annotated[
        bool, typer.Option("--bare", help="Install nothing of dynawatt: for its Helm chart. Implies --no-dynawatt.")
    ] = _DEFAULTS.bare,
    as_json: _Json = False,
) -> None:
    """Start a sandbox, or say how to use the one that runs."""
    options = SandboxOptions(
        name=name,
        nodes=nodes,
        gpus_per_node=gpus_per_node,
        gpu=gpu,
        startup_s=startup_s,
        dynawatt=dynawatt and not bare,
        bare=bare,
    )
    with show_progress(quiet=as_json) as progress, _terminable():
        sandbox = Sandbox.up(options, progress, rules=rule_files())
    if as_json:
        typer.echo(json.dumps(_describe(sandbox), indent=1))
        return
    if sandbox.reused:
        typer.echo(f"Sandbox {name!r} already runs with these options; it is used as it is.")
    else:
        typer.echo(f"Sandbox {name!r} is ready after {sandbox.started_in_s:.1f} s: {_inventory(options)}.")
    suffix = "" if name == _DEFAULTS.name else f" --name {name}"
    typer.echo(f"  kubectl     dynawatt sandbox kubectl{suffix} -- get nodes")
    typer.echo(f"  kubeconfig  {sandbox.kubeconfig}")
    typer.echo(f"  Prometheus  {sandbox.prometheus_url}")
    typer.echo(f"  end it      dynawatt sandbox down{suffix}")


def status(name: _Name = _DEFAULTS.name, as_json: _Json = False) -> None:
    """Show each component, and why one died; exit code 1 when one is dead."""
    sandbox = Sandbox.load(name)
    if as_json:
        typer.echo(json.dumps(_describe(sandbox), indent=1))
    else:
        typer.echo(f"Sandbox {name!r}: {_inventory(sandbox.options)}, in {sandbox.directory}")
        status_table(sandbox.status())
        if not sandbox.ready:
            typer.echo("Its start has not finished, or was killed; `dynawatt sandbox up` then starts it anew.")
    sandbox.check()


def down(
    name: _Name = _DEFAULTS.name,
    everything: Annotated[bool, typer.Option("--all", help="End every sandbox of this user.")] = False,
) -> None:
    """End a sandbox: no process and no file of it stays."""
    for each in existing_names() if everything else [name]:
        if bring_down(each):
            typer.echo(f"Sandbox {each!r} ended.")
        elif not everything:
            typer.echo(f"Sandbox {each!r} does not run.")


def kubeconfig(
    name: _Name = _DEFAULTS.name,
    raw: Annotated[bool, typer.Option("--raw", help="Print the content instead of the path.")] = False,
) -> None:
    """Print the path of the kubeconfig file: export KUBECONFIG=$(dynawatt sandbox kubeconfig)."""
    path = Sandbox.load(name).kubeconfig
    typer.echo(path.read_text(encoding="utf-8") if raw else path, nl=not raw)


def kubectl(
    arguments: Annotated[list[str], typer.Argument(metavar="[--] ARGUMENTS...", help="What to pass to kubectl.")],
    name: _Name = _DEFAULTS.name,
) -> None:
    """Run kubectl against a sandbox: dynawatt sandbox kubectl -- get pods."""
    config = Sandbox.load(name).kubeconfig
    binary = ensure_built()["kubectl"]
    os.execve(binary, ["kubectl", *arguments], os.environ | {"KUBECONFIG": str(config)})


def helm(
    arguments: Annotated[list[str], typer.Argument(metavar="[--] ARGUMENTS...", help="What to pass to helm.")],
    name: _Name = _DEFAULTS.name,
) -> None:
    """Run helm against a sandbox, built when it is first used: dynawatt sandbox helm -- list --all-namespaces."""
    config = Sandbox.load(name).kubeconfig
    with show_progress() as progress, _terminable():
        binary = ensure_helm(progress)["helm"]
    os.execve(binary, ["helm", *arguments], os.environ | {"KUBECONFIG": str(config)})


def _inventory(options: SandboxOptions) -> str:
    product = GPU_CLASSES[options.gpu].product
    nodes = "1 node" if options.nodes == 1 else f"{options.nodes} nodes"
    return f"{nodes} with {options.gpus_per_node} {product} each, pods Ready after {options.startup_s} s"


def _describe(sandbox: Sandbox) -> dict[str, Any]:
    return {
        "name": sandbox.options.name,
        "directory": str(sandbox.directory),
        "kubeconfig": str(sandbox.kubeconfig),
        "ready": sandbox.ready,
        "reused": sandbox.reused,
        "startedInS": round(sandbox.started_in_s, 3),
        "components": [
            {
                "name": component.record.name,
                "running": component.running,
                "pid": component.record.pid,
                "url": component.record.url,
                "log": str(component.record.log),
            }
            for component in sandbox.status()
        ],
    }


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and a closed terminal unwind like Ctrl-C, so that a half-started sandbox is cleaned up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
