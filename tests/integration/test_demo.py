import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from dynawatt.cli.demo.agents import Agents
from dynawatt.sandbox.processes import find_marked

pytestmark = pytest.mark.integration

DEMO = [sys.executable, "-m", "dynawatt", "demo", "--duration-s", "60"]


@pytest.fixture
def state_home(tmp_path):
    """The demo's sandbox has a fixed name: its state goes where no running demo is met."""
    return {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}


def left_behind(environment):
    directory = Path(environment["XDG_STATE_HOME"]) / "dynawatt" / "sandboxes" / "demo"
    return directory.exists() and any(directory.iterdir()), find_marked(directory)


def test_the_demo_says_what_was_saved_and_leaves_nothing(state_home, tmp_path):
    result = tmp_path / "demo.json"
    done = subprocess.run(
        [*DEMO, "--json", str(result)], env=state_home, capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    assert found["failed_requests"] == 0
    assert found["requests"] > 500
    assert found["saving_fraction"] == pytest.approx(1 - found["energy_j"] / found["baseline_energy_j"])
    assert found["changes"]["clock"] >= 1
    assert found["changes"]["tensor_parallel"] >= 1
    # While the shape changes clocks stay up, and a minute leaves little time beside that.
    assert found["clock_mhz"]["lowest"] <= found["baseline"]["clock_mhz"] == found["clock_mhz"]["highest"]
    assert found["decisions"][0]["predictedSaving"]["toDefaultClockPercent"] > 0
    assert found["decisions"][0]["chosen"]["clockMegahertz"] > 0
    assert 0.9 < min(found["attainment"].values()) <= 1
    assert "Given back: the Deployment asks for 1 replica again" in done.stdout
    assert left_behind(state_home) == (False, [])


def test_ctrl_c_leaves_nothing(state_home):
    running = subprocess.Popen(DEMO, env=state_home, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    directory = Path(state_home["XDG_STATE_HOME"]) / "dynawatt" / "sandboxes" / "demo"
    deadline_s = time.monotonic() + 60
    while not (directory / "state.json").exists() and time.monotonic() < deadline_s:
        time.sleep(0.2)
    time.sleep(3)
    running.send_signal(signal.SIGINT)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130, output
    assert "Traceback" not in output
    assert left_behind(state_home) == (False, [])


def test_the_energy_of_the_summary_is_what_the_gpus_used(dynawatt_sandbox):
    agents = Agents(dynawatt_sandbox.agent_urls())

    def look():
        used = httpx.get(f"{dynawatt_sandbox.nodesim_url}/energy").json()
        return agents.energy(), (used["timeS"], used["energyJ"])

    before = look()
    time.sleep(5)
    told_w, used_w = (
        (later_j - earlier_j) / (later_s - earlier_s)
        for (earlier_s, earlier_j), (later_s, later_j) in zip(before, look(), strict=True)
    )
    assert used_w >= 0.99 * 16 * 70  # idle at least
    assert told_w == pytest.approx(used_w, rel=0.02)
