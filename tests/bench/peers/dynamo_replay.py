"""Replays a load through NVIDIA Dynamo's mocker, where ai-dynamo-runtime is installed, and prints how long it takes.

Arguments: CSV of arrival_s,input_tokens,output_tokens; replicas; seconds of an iteration. The mocker's own step times
are those of a small model, which makes many iterations; with ours it has about as many to simulate as dynawatt.
"""

import csv
import json
import sys
import tempfile
import time
from importlib.metadata import version

from dynamo._core import run_mocker_trace_replay

HASH_BLOCK_TOKENS = 512


def main(load: str, replicas: str, iteration_s: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as trace:
        blocks = 0
        with open(load) as rows:
            for row in csv.DictReader(rows):
                input_tokens = int(row["input_tokens"])
                own = range(blocks, blocks + -(-input_tokens // HASH_BLOCK_TOKENS))  # no prompt shares a prefix
                blocks += len(own)
                request = {
                    "timestamp": 1000 * float(row["arrival_s"]),
                    "input_length": input_tokens,
                    "output_length": int(row["output_tokens"]),
                    "hash_ids": list(own),
                }
                trace.write(json.dumps(request) + "\n")
        trace.flush()
        ours = {"type": "fixed", "decode_ms": 1000 * float(iteration_s), "prefill_ms": 1000 * float(iteration_s)}
        cpu_s, mean_tbt_s = {}, {}
        for name, timing in (("its_step_times", {"type": "polynomial"}), ("our_step_times", ours)):
            started_s = time.process_time()
            result = run_mocker_trace_replay(
                [trace.name],
                num_workers=int(replicas),
                trace_block_size=HASH_BLOCK_TOKENS,
                extra_engine_args={"engine": {"timing_model": timing}},
                capture_planner_details=False,
            ).summary
            assert result["completed_requests"] == result["num_requests"]
            cpu_s[name] = time.process_time() - started_s
            mean_tbt_s[name] = result["mean_itl_ms"] / 1000
    print(json.dumps({"version": version("ai-dynamo-runtime"), "cpu_s": cpu_s, "mean_tbt_s": mean_tbt_s}))


if __name__ == "__main__":
    main(*sys.argv[1:])
