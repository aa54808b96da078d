"""The command lines of dynawatt's own programs as they run in the sandbox."""

import sys
from pathlib import Path

from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.sandbox.launching import Component
from dynawatt.sandbox.options import SandboxOptions

# -P: a file in the user's current directory must not shadow a module; -u: logs are complete when a process is killed.
_PYTHON = [sys.executable, "-P", "-u", "-m"]


def nodesim(*, kubeconfig: Path, directory: Path) -> Component:
    """The simulated GPUs and vLLM servers of all nodes."""

    def command(port: int) -> list[str]:
        return [
            *_PYTHON,
            "dynawatt.sandbox.nodesim",
            f"--kubeconfig={kubeconfig}",
            f"--port={port}",
            f"--state-dir={directory}",
        ]

    return Component("nodesim", command, health="/healthz")


def operator(*, kubeconfig: Path, prometheus_url: str, options: SandboxOptions) -> Component:
    """The operator, with loops as fast as the sandbox's load changes."""

    def command(port: int) -> list[str]:
        return [
            *_PYTHON,
            "dynawatt",
            "operator",
            f"--kubeconfig={kubeconfig}",
            f"--prometheus-url={prometheus_url}",
            f"--namespace={DEFAULT_NAMESPACE}",
            f"--plan-interval-s={options.plan_interval_s:g}",
            f"--observe-interval-s={options.observe_interval_s:g}",
            f"--rate-window-s={options.rate_window_s:g}",
            "--mix-window-s=120",
            f"--peak-window-s={options.peak_window_s:g}",
            f"--time-lapse={options.time_lapse:g}",
            f"--lease-duration-s={options.lease_duration_s:g}",
            f"--health-port={port}",
        ]

    return Component("operator", command, health="/healthz")


def agent(*, node: str, kubeconfig: Path, nodesim_url: str) -> Component:
    """The agent of one node."""

    def command(port: int) -> list[str]:
        return [
            *_PYTHON,
            "dynawatt",
            "agent",
            f"--node-name={node}",
            f"--kubeconfig={kubeconfig}",
            f"--simulated-gpus={nodesim_url}",
            f"--metrics-port={port}",
            f"--namespace={DEFAULT_NAMESPACE}",
        ]

    return Component(f"agent-{node}", command, health="/metrics")
