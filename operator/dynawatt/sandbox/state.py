"""What is written down about a sandbox, so that later commands find it again.

Everything of a sandbox lies in one directory; ``state.json`` there names its
options, its processes and their addresses. It is rewritten as a whole, through
a rename, whenever a process is added.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dynawatt.sandbox.options import SandboxOptions
from dynawatt.sandbox.paths import sandboxes_root
from dynawatt.sandbox.processes import ProcessIdentity

_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One component of a sandbox as it was started."""

    name: str
    identity: ProcessIdentity
    log: Path
    url: str
    """Where it answers; empty when it serves nothing."""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.identity.pid


@dataclass(slots=True)
class SandboxState:
    """One sandbox on disk."""

    directory: Path
    options: SandboxOptions
    pod_network: str
    """The /16 that pod addresses come from, different for every sandbox; such as ``127.64.0.0/16``."""
    ready: bool = False
    """Set once ``up`` has finished; without it the command that started the sandbox is at work or died."""
    processes: dict[str, ProcessRecord] = field(default_factory=dict)
    """By component name, in the order of their start."""

    @property
    def logs(self) -> Path:
        """The directory of log files."""
        return self.directory / "logs"

    @property
    def kubeconfigs(self) -> Path:
        """The directory of the components' kubeconfig files."""
        return self.directory / "kubeconfigs"

    @property
    def admin_kubeconfig(self) -> Path:
        """The user's own kubeconfig file."""
        return self.directory / "kubeconfig"

    @property
    def dynawatt_targets(self) -> Path:
        """Where the operator and the agents are, for Prometheus."""
        return self.directory / "prometheus-targets.json"

    def save(self) -> None:
        """Write it, never half."""
        content: dict[str, Any] = {
            "options": asdict(self.options),
            "podNetwork": self.pod_network,
            "ready": self.ready,
            "processes": [asdict(record) | {"log": str(record.log)} for record in self.processes.values()],
        }
        draft = self.directory / f"{_FILE}.new"
        draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.replace(draft, self.directory / _FILE)


def remove_files(directory: Path) -> None:
    """Delete every file of a sandbox; the directory itself goes when its lock is released."""
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def directory_of(name: str) -> Path:
    """Where the sandbox of this name keeps its files."""
    return sandboxes_root() / name


def existing_names() -> list[str]:
    """Names of all sandboxes of this user, running or left behind."""
    root = sandboxes_root()
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []


def load_state(name: str) -> SandboxState | None:
    """Read a sandbox's state; None when there is none, or none that can be read."""
    directory = directory_of(name)
    try:
        content = json.loads((directory / _FILE).read_text(encoding="utf-8"))
        return SandboxState(
            directory=directory,
            options=SandboxOptions(**content["options"]),
            pod_network=content["podNetwork"],
            ready=content["ready"],
            processes={record.name: record for record in _records(content["processes"])},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _records(items: list[dict[str, Any]]) -> Iterator[ProcessRecord]:
    for item in items:
        yield ProcessRecord(
            name=item["name"],
            identity=ProcessIdentity(**item["identity"]),
            log=Path(item["log"]),
            url=item["url"],
        )
