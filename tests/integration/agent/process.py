"""The agent under test as a process, and the metrics that it tells."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from dynawatt.sandbox.driver.build import ensure_driver
from dynawatt.sandbox.dynawatt_processes import agent as agent_component

from .cluster import NODE, eventually


class Metrics:
    """What one page tells."""

    def __init__(self, text: str) -> None:
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float | None:
        """Sum of all samples with these labels, of which they may have more; None without any."""
        found = [each.value for each in self._samples if each.name == name and labels.items() <= each.labels.items()]
        return sum(found) if found else None

    def of(self, labels: Mapping[str, str]) -> dict[str, float]:
        """All samples with these labels and no other."""
        return {sample.name: sample.value for sample in self._samples if sample.labels == labels}

    def chosen(self, name: str, label: str) -> str:
        """The value of a label where the sample is 1."""
        return next((each.labels[label] for each in self._samples if each.name == name and each.value), "")


class AgentProcess:
    """``dynawatt agent`` on the node under test, as the sandbox would start it."""

    def __init__(self, sandbox: Any, kubeconfig: Path, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "agent.log"
        self.journal = directory / "journal"
        component = agent_component(
            node=NODE,
            kubeconfig=kubeconfig,
            nodesim_directory=sandbox.nodesim_directory,
            driver=ensure_driver(),
            journal=self.journal,
        )
        self.environment = os.environ | component.environment
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(component.command(port), env=self.environment, stdout=output, stderr=output)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def metrics(self) -> Metrics:
        return Metrics(self.get("/metrics"))

    def later_metrics(self) -> Metrics:
        """Of a cycle that has not begun yet."""
        ended = "dynawatt_agent_last_cycle_timestamp_seconds"
        for _ in range(2):
            before_s = self.metrics().total(ended)
            eventually(lambda before_s=before_s: self.metrics().total(ended) != before_s)
        return self.metrics()

    def healthy(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/healthz") == "ok"
        except OSError:
            return False

    def reset_all(self) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dynawatt", "agent", "reset-all", f"--journal-dir={self.journal}"]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def end(self, number: signal.Signals) -> int:
        os.kill(self.process.pid, number)
        return self.process.wait(timeout=15)
