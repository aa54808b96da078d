"""Processes of pods whose kubelet was killed: its successor ends them before it starts the pod's process anew."""

import json
import os
import signal
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Final

from dynawatt.sandbox.processes import ProcessIdentity, identify, is_running

_FILE: Final = "process.json"


def note_process(directory: Path, pid: int) -> None:
    """Write down which process runs for the pod of this directory."""
    process = identify(pid)
    if process is not None:  # else it has ended already
        (directory / _FILE).write_text(json.dumps(asdict(process)), encoding="utf-8")


def end_orphan(directory: Path) -> None:
    """Kill the process that still runs for the pod, with all that it started."""
    try:
        process = ProcessIdentity(**json.loads((directory / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return
    if is_running(process):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
