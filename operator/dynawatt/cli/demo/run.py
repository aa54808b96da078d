"""The course of the demo: set up, load, give back, compare, leave nothing behind."""

import asyncio
import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console
from rich.live import Live

from dynawatt.adapters.kubernetes.client import api_client
from dynawatt.cli.demo.agents import Agents
from dynawatt.cli.demo.faults import Fault, OperatorKill
from dynawatt.cli.demo.result import DemoResult, counted
from dynawatt.cli.demo.scenario import GPU, GPUS_PER_NODE, Scenario
from dynawatt.cli.demo.view import DemoView
from dynawatt.cli.demo.warming import warm_models
from dynawatt.cli.demo.watching import ServiceWatch
from dynawatt.cli.sandbox_view import show_progress
from dynawatt.dashboards.rule_files import rule_files
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.load.cluster import ObjectName, ServiceEndpoints
from dynawatt.load.replay import ReplayOptions, replay
from dynawatt.load.report import LoadProgress, LoadReport
from dynawatt.sandbox.build import ensure_built
from dynawatt.sandbox.cluster import Sandbox
from dynawatt.sandbox.options import SandboxOptions

_STARTUP_S: Final = 6
"""Three minutes in the time lapse of the load."""
_READY_TIMEOUT_S: Final = 120.0
_GIVE_BACK_TIMEOUT_S: Final = 120.0
_PLAIN_EVERY_S: Final = 10


def run_demo(scenario: Scenario, *, json_file: Path | None, fault: Fault | None, keep: bool) -> None:
    """Run it to the end; the sandbox is ended in any case.

    Raises InvalidInputError for a file that cannot be written, OperationError when a part of the demo fails.
    """
    if json_file is not None and not json_file.parent.is_dir():
        raise InvalidInputError(f"--json {json_file}: its folder does not exist; create it first")
    console = Console()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = SandboxOptions(
        name="demo", nodes=scenario.nodes, gpus_per_node=GPUS_PER_NODE, gpu=GPU, startup_s=_STARTUP_S
    )
    with show_progress() as progress:
        kubectl = _Kubectl(ensure_built(progress)["kubectl"])
    warm_models(scenario, scenario.models.gpu.product, console)
    with show_progress() as progress:
        sandbox = Sandbox.up(options, progress, rules=rule_files())
    kubectl.kubeconfig = sandbox.kubeconfig
    try:
        console.print(f"Kubernetes, Prometheus, the operator and {options.nodes} agents are up: {scenario.source}.")
        _deploy(scenario, kubectl, console)
        kill = None if fault is None else OperatorKill(sandbox)
        report, watch, energy_j, duration_s = asyncio.run(_under_load(scenario, sandbox, kill, console))
        sandbox.check()
        _give_back(scenario, sandbox, kubectl, console)
        with console.status("Replaying the same load on the static fleet"):
            static = scenario.replay_static(duration_s)
        result = DemoResult(scenario, report, static, watch, energy_j, duration_s, kill)
        result.show(console)
        if json_file is not None:
            json_file.write_text(json.dumps(result.to_json(), indent=2) + "\n", encoding="utf-8")
    finally:
        if keep:
            console.print("The sandbox stays: dynawatt sandbox status --name demo; end it with: dynawatt sandbox down")
        else:
            with console.status("Stopping the sandbox"):
                sandbox.down()


class _Kubectl:
    """The built kubectl, as a user would use it."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        self.kubeconfig = Path()

    def run(self, *arguments: str, text: str | None = None) -> str:
        command = [str(self._binary), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise OperationError(f"kubectl {arguments[0]} failed: {' '.join(done.stderr.split())}")
        return done.stdout

    def apply(self, manifests: list[dict[str, Any]]) -> None:
        self.run("apply", "-f", "-", text=yaml.safe_dump_all(manifests))


def _deploy(scenario: Scenario, kubectl: _Kubectl, console: Console) -> None:
    kubectl.apply(scenario.manifests)
    kubectl.apply([scenario.llmservice])
    with console.status(f"Waiting for {counted(scenario.replicas)} of vLLM to load the model"):
        _until(
            lambda: kubectl.run("get", "deployment/llama-8b", "-o=jsonpath={.status.readyReplicas}"),
            str(scenario.replicas),
            timeout_s=_READY_TIMEOUT_S,
            what="the vLLM Deployment is Ready",
        )
    console.print(
        f"Ready: {counted(scenario.replicas)} of {scenario.model} on {scenario.models.tensor_parallel} GPUs each, "
        "sized for the peak minute at the default clock. examples/llmservice.yaml puts them in dynawatt's hands."
    )


def _give_back(scenario: Scenario, sandbox: Sandbox, kubectl: _Kubectl, console: Console) -> None:
    default_mhz = scenario.models.gpu.default_clock_mhz
    with console.status("Deleting the LLMService: everything is given back"):
        kubectl.run("delete", "llmservice/llama-8b", f"--timeout={_GIVE_BACK_TIMEOUT_S:.0f}s")
        replicas = kubectl.run("get", "deployment/llama-8b", "-o=jsonpath={.spec.replicas}")
        if replicas != str(scenario.replicas):
            raise OperationError(
                f"the Deployment has {replicas} replicas after giving back: must be {scenario.replicas}"
            )
        _until(
            lambda: _clocks_mhz(sandbox),
            {float(default_mhz)},
            timeout_s=_GIVE_BACK_TIMEOUT_S,
            what=f"all GPUs run at {default_mhz} MHz",
        )
    asked = counted(scenario.replicas)
    console.print(f"Given back: the Deployment asks for {asked} again, clocks are at their defaults.")


def _clocks_mhz(sandbox: Sandbox) -> set[float]:
    """The clocks that the GPUs of all nodes run at."""
    return {clock_mhz for node in Agents(sandbox.agent_urls()).read() for clock_mhz in node.clocks_mhz}


def _until(ask: Callable[[], object], wanted: object, *, timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while (found := ask()) != wanted:
        if time.monotonic() > deadline_s:
            raise OperationError(f"waited {timeout_s:.0f} s until {what}: found {found!r}, wanted {wanted!r}")
        time.sleep(0.5)


async def _under_load(
    scenario: Scenario, sandbox: Sandbox, kill: OperatorKill | None, console: Console
) -> tuple[LoadReport, ServiceWatch, float, float]:
    """Report, what was watched, energy in J and duration in s of the load."""
    watch = ServiceWatch(api_client(sandbox.kubeconfig), Agents(sandbox.agent_urls()), "default", "llama-8b")
    follower = asyncio.create_task(watch.follow())
    killing = None if kill is None else asyncio.create_task(kill.run(scenario.trace.span_s))
    try:
        async with ServiceEndpoints(ObjectName("default", "llama-8b"), sandbox.kubeconfig) as endpoints:
            with _showing(scenario, watch, console) as on_progress:
                start_s, start_j = await watch.energy()
                report = await replay(
                    scenario.trace,
                    endpoints,
                    scenario.objectives,
                    on_progress,
                    options=ReplayOptions(model=scenario.model),
                )
                end_s, end_j = await watch.energy()
        if killing is not None:
            await killing
    finally:
        follower.cancel()
    return report, watch, end_j - start_j, end_s - start_s


@contextlib.contextmanager
def _showing(scenario: Scenario, watch: ServiceWatch, console: Console) -> Iterator[Any]:
    """A callback for progress: a live view on a terminal, a line now and then elsewhere."""
    view = DemoView(scenario, scenario.trace.span_s)
    if not console.is_terminal:

        def print_line(progress: LoadProgress) -> None:
            if round(progress.elapsed_s) % _PLAIN_EVERY_S == 0:
                console.print(view.line(progress, watch), highlight=False, soft_wrap=True)

        yield print_line
        return
    with Live(console=console, auto_refresh=False) as live:

        def draw(progress: LoadProgress) -> None:
            if round(progress.elapsed_s) % 4 == 0:
                view.sample(progress, watch)
            live.update(view.frame(progress, watch), refresh=True)

        yield draw
