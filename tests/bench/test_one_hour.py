"""One hour of conversations on 12 replicas, beside the other simulators of LLM serving."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .loads import best_of, conversation_hour, run, shape

pytestmark = pytest.mark.bench

REPLICAS = 12
PEERS = Path(__file__).parent / "peers"
PEER_PYTHON = os.environ.get("DYNAWATT_BENCH_PEERS", sys.executable)
"""A Python that has ai-dynamo-runtime and vidur from PyPI; a peer that it does not have is quoted."""
QUOTED_S = {"dynamo": 1.8, "vidur": 147.0, "splitwise-sim": 8.1}
"""Wall times for the published trace on another machine with 2 cores, not measured here."""


def test_one_hour_on_12_replicas(publish, tmp_path):
    name, trace = conversation_hour()
    what = shape()
    run(trace.window(0.0, 60.0), REPLICAS, what)  # compiles
    result, wall_s = best_of(5, lambda: run(trace, REPLICAS, what))
    assert result.unfinished_requests == 0
    assert result.requests == len(trace)
    tally = result.tally
    iteration_s = tally.busy_gpu_s / what.replica.tensor_parallel / tally.iterations
    peers = {peer: quoted(peer, wall_s) | measured(peer, wall_s, trace, iteration_s, tmp_path) for peer in QUOTED_S}
    publish(
        "one_hour",
        f"{len(trace)} requests on {REPLICAS} replicas in {wall_s:.3f} s, that is "
        + ", ".join(f"1/{least_ratio(found):.0f} of {peer}" for peer, found in peers.items()),
        load=name,
        requests=len(trace),
        replicas=REPLICAS,
        wall_s=wall_s,
        iterations=tally.iterations,
        mean_iteration_s=iteration_s,
        peers=peers,
    )


def quoted(peer, wall_s):
    return {"quoted_s": QUOTED_S[peer], "ratio_to_quoted": QUOTED_S[peer] / wall_s}


def least_ratio(found):
    """How many times as long a peer takes at the least, of what was measured here and what is quoted."""
    return min(ratio for name, ratio in found.items() if name.startswith("ratio"))


def measured(peer, wall_s, trace, iteration_s, folder):
    """The peer over the same requests, here; with our mean iteration, so that it has as many of them.

    Its processor time counts, which other processes do not lengthen: what it is compared with is our wall time.
    """
    script = PEERS / f"{peer}_replay.py"
    if not script.exists():
        return {"measured": "not run: not on PyPI"}
    load = folder / "load.csv"
    with load.open("w") as file:
        rows = csv.writer(file)
        rows.writerow(("arrival_s", "input_tokens", "output_tokens"))
        rows.writerows(zip(trace.arrival_s, trace.input_tokens, trace.output_tokens, strict=True))
    command = [PEER_PYTHON, script, load, str(REPLICAS), str(iteration_s)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        return {"measured": f"not run: {reason[0]}"}
    found = json.loads(done.stdout.splitlines()[-1])
    ratios = {f"ratio_to_{name}": each_s / wall_s for name, each_s in found["cpu_s"].items()}
    return {"measured": found, **ratios}
