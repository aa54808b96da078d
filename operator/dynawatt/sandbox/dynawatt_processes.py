"""The command lines of dynawatt's own programs as they run in the sandbox."""

import sys
from pathlib import Path

from dynawatt.api.group import DEFAULT_NAMESPACE
from dynawatt.sandbox.driver.layout import STATE_VARIABLE
from dynawatt.sandbox.launching import Component
from dynawatt.sandbox.nodesim.driver_bridge import driver_state_path
from dynawatt.sandbox.nodesim.pod_resources import pod_resources_socket
from dynawatt.sandbox.options import SandboxOptions

# -P: a file in the user's current directory must not shadow a module; -u: logs are complete when a process is killed.
_PYTHON = [sys.executable, "-P", "-u", "-m"]


def nodesim(*, kubeconfig: Path, directory: Path, pod_network: str, driver: Path) -> Component:
    """The simulated GPUs and vLLM servers of all nodes, and dynawatt's own pods; ``driver`` has the NVML library."""

    def command(port: int) -> list[str]:
        return [
            *_PYTHON,
            "dynawatt.sandbox.nodesim",
            f"--kubeconfig={kubeconfig}",
            f"--port={port}",
            f"--state-dir={directory}",
            f"--pod-network={pod_network}",
            f"--driver-dir={driver}",
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
            f"--metrics-port={port}",
        ]

    return Component("operator", command, health="/healthz")


def agent(*, node: str, kubeconfig: Path, nodesim_directory: Path, driver: Path, journal: Path) -> Component:
    """The agent of one node, with the simulated driver and kubelet of that node; ``driver`` has the NVML library."""

    def command(port: int) -> list[str]:
        return [
            *_PYTHON,
            "dynawatt",
            "agent",
            f"--node-name={node}",
            f"--kubeconfig={kubeconfig}",
            f"--pod-resources-socket={pod_resources_socket(nodesim_directory, node)}",
            f"--journal-dir={journal}",
            f"--metrics-port={port}",
            f"--namespace={DEFAULT_NAMESPACE}",
        ]

    environment = {
        "LD_LIBRARY_PATH": str(driver),
        STATE_VARIABLE: str(driver_state_path(nodesim_directory, node)),
        "MALLOC_ARENA_MAX": "2",  # glibc would give each of some thirty threads a heap of its own
    }
    return Component(f"agent-{node}", command, health="/readyz", environment=environment)
