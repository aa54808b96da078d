"""A day and a week of conversations at their native rate on 12 replicas, each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench

COMMAND = [
    *(str(Path(sys.executable).with_name("dynawatt")), "simulate"),
    *("--workload", "azure-2024-conv", "--policy", "single-pool", "--replicas", "12", "--json", "-"),
]


def test_a_day(publish, tmp_path):
    measure(publish, tmp_path, "day", hours=24)


@pytest.mark.skipif("DYNAWATT_BENCH_WEEK" not in os.environ, reason="takes minutes: set DYNAWATT_BENCH_WEEK=1")
def test_a_week(publish, tmp_path):
    measure(publish, tmp_path, "week", hours=168)


def measure(publish, folder, subject, hours):
    progress = (folder / "progress").open("w+")
    process = subprocess.Popen([*COMMAND, "--hours", str(hours)], stdout=subprocess.PIPE, stderr=progress)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # unlike RUSAGE_CHILDREN, of this process alone
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, Path(progress.name).read_text()
    result = json.loads(output)
    [policy] = result["policies"]
    peak_rss_bytes = usage.ru_maxrss * 1024
    cpu_s = usage.ru_utime + usage.ru_stime
    publish(
        subject,
        f"{result['requests']} requests in {result['wall_s']:.1f} s ({cpu_s:.1f} s of processor time with start-up and "
        f"drawing the load), {peak_rss_bytes / 1e9:.2f} GB at most",
        command=" ".join(["dynawatt", *COMMAND[1:], "--hours", str(hours)]),
        requests=result["requests"],
        wall_s=result["wall_s"],
        process_cpu_s=cpu_s,
        peak_rss_bytes=peak_rss_bytes,
        attainment=policy["attainment"],
        unfinished_requests=policy["unfinished_requests"],
    )
