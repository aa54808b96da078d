"""Benchmarks: each subject writes its figures to out/SUBJECT.json, and one line at the end of the run.

No wall time is asserted: what a machine is capable of is not a property of the code. What is asserted is that the
work was done.
"""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pytest

OUT = Path(__file__).parent / "out"
LINES = []


@pytest.fixture
def publish():
    def publish(subject, line, **figures):
        OUT.mkdir(exist_ok=True)
        measured_at = datetime.now(UTC).isoformat(timespec="seconds")
        result = {"subject": subject, "measured_at": measured_at, "machine": machine(), **figures}
        (OUT / f"{subject}.json").write_text(json.dumps(result, indent=2) + "\n")
        LINES.append(f"{subject}: {line}")

    return publish


def machine():
    model = next((line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")), "")
    versions = {name: version(name) for name in ("numba", "numpy")}
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), **versions}


def _cpu_info():
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def pytest_terminal_summary(terminalreporter):
    if LINES:
        terminalreporter.section("figures")
    for line in LINES:
        terminalreporter.write_line(line)
