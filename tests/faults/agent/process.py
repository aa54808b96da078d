"""``dynawatt agent`` as a process of its own, on the simulated driver."""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

_SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$", re.MULTILINE)


class AgentProcess:
    """One life of an agent."""

    def __init__(self, options: Mapping[str, object], *, environment: Mapping[str, str], log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}"
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                _command([], {**options, "metrics-port": port}),
                stdout=output,
                stderr=output,
                env=os.environ | environment,
            )

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of an answer; 0 when there is none."""
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        """Whether a cycle has ended, and none were missed since."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        return self.get("/readyz")[0] == 200

    def metric(self, name: str, **labels: str) -> float | None:
        """Sum of the samples with these labels; None when there are none."""
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        found = [
            float(value)
            for sample, text, value in _SAMPLE.findall(self.get("/metrics")[1])
            if sample == name and wanted <= set(text.split(","))
        ]
        return sum(found) if found else None

    def limit_file_size(self, size_bytes: int) -> None:
        """Let every write beyond so many bytes of a file fail, as on a full disk."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

    def kill(self) -> None:
        """End it without a chance to do anything."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def terminate(self) -> None:
        """Ask it to end, as the kubelet does."""
        os.kill(self.process.pid, signal.SIGTERM)

    def has_ended(self) -> bool:
        """Whether it is gone; then with exit code 0."""
        assert self.process.poll() in {None, 0}, self.log.read_text()[-3000:]
        return self.process.returncode is not None


def run(*words: str, options: Mapping[str, object], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A command below ``dynawatt agent`` until it ends by itself."""
    return subprocess.run(
        _command(words, options),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _command(words: Sequence[str], options: Mapping[str, object]) -> list[str]:
    given = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-P", "-m", "dynawatt", "agent", *words, *given]
