"""Figures of one run, written to bench.json in the repository's root: speeds, counts and ratios, nothing asserted."""

import json
import os
import platform
from pathlib import Path

import pytest

RESULT = Path(__file__).parents[2] / "bench.json"


@pytest.fixture(scope="session")
def figures():
    found = {"machine": {"cores": os.cpu_count(), "python": platform.python_version()}}
    yield found
    RESULT.write_text(json.dumps(found, indent=2) + "\n")
