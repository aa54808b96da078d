"""A real Prometheus over a history of vLLM metrics that was written at once, not scraped."""

import subprocess
import time
import urllib.request
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dynawatt.sandbox.addresses import free_ports
from dynawatt.sandbox.build import ensure_built

STEP_S = 60
INPUTS = {"100": 0.1, "1000": 0.7, "2000": 0.95, "5000": 1.0, "+Inf": 1.0}
OUTPUTS = {"50": 0.2, "200": 0.6, "500": 1.0, "+Inf": 1.0}
TTFT = {"0.1": 0.5, "0.25": 0.9, "1.0": 0.98, "2.5": 1.0, "+Inf": 1.0}
TBT = {"0.025": 0.9, "0.1": 0.995, "+Inf": 1.0}
MEAN_INPUT, MEAN_OUTPUT = 800.0, 200.0


@dataclass
class Pod:
    """One pod's life: requests per second by minute; None where nothing was scraped."""

    labels: dict[str, str]
    rates_rps: list[float | None]
    restarts: set[int] = field(default_factory=set)
    """Minutes at which its counters begin anew."""
    tbt_family: str = "inter_token_latency_seconds"
    kv_blocks: int = 84_000
    """Of 16 tokens."""


def write_openmetrics(path: Path, pods: list[Pod], end_s: int) -> None:
    families: dict[tuple[str, str], list[str]] = defaultdict(list)

    def sample(family, kind, name, labels, value, time_s):
        text = ",".join(f'{key}="{each}"' for key, each in labels.items())
        families[family, kind].append(f"{name}{{{text}}} {value} {time_s}")

    for pod in pods:
        own = {"engine": "0", **pod.labels}
        bare = {key: value for key, value in own.items() if key != "model_name"}
        finished = 0.0
        for minute, rate in enumerate(pod.rates_rps):
            time_s = end_s - STEP_S * (len(pod.rates_rps) - 1 - minute)
            if minute in pod.restarts:
                finished = 0.0
            if rate is None:
                continue
            finished += rate * STEP_S
            sample("vllm:num_requests_running", "gauge", "vllm:num_requests_running", own, 3, time_s)
            sample("vllm:cache_config_info", "gauge", "vllm:cache_config_info",
                   bare | {"num_gpu_blocks": str(pod.kv_blocks), "block_size": "16"}, 1, time_s)  # fmt: skip
            for reason, share in (("stop", 0.75), ("length", 0.25), ("abort", 0.0)):
                sample("vllm:request_success", "counter", "vllm:request_success_total",
                       own | {"finished_reason": reason}, share * finished, time_s)  # fmt: skip
            for name, value in (("prefix_cache_queries", 1000.0), ("prefix_cache_hits", 300.0)):
                sample(f"vllm:{name}", "counter", f"vllm:{name}_total", own, value * finished, time_s)
            for name, shares, mean, each in (
                ("request_prompt_tokens", INPUTS, MEAN_INPUT, 1),
                ("request_generation_tokens", OUTPUTS, MEAN_OUTPUT, 1),
                ("time_to_first_token_seconds", TTFT, 0.2, 1),
                (pod.tbt_family, TBT, 0.02, 200),
            ):
                count = finished * each
                for bound, share in shares.items():
                    sample(
                        f"vllm:{name}", "histogram", f"vllm:{name}_bucket", own | {"le": bound}, share * count, time_s
                    )
                sample(f"vllm:{name}", "histogram", f"vllm:{name}_sum", own, mean * count, time_s)
                sample(f"vllm:{name}", "histogram", f"vllm:{name}_count", own, count, time_s)
    lines = [line for (family, kind), rows in families.items() for line in (f"# TYPE {family} {kind}", *rows)]
    path.write_text("\n".join([*lines, "# EOF"]) + "\n")


@contextmanager
def prometheus_with(directory: Path, pods: list[Pod], end_s: int):
    """Its URL. The history ends at a Unix time."""
    write_openmetrics(directory / "history.om", pods, end_s)
    with prometheus_over(directory / "history.om") as url:
        yield url


@contextmanager
def prometheus_over(history: Path):
    """URL of one that holds what a file of OpenMetrics says; it keeps its data beside the file."""
    binaries, directory = ensure_built(), history.parent
    data, config = directory / "data", directory / "prometheus.yml"
    subprocess.run(
        [binaries["promtool"], "tsdb", "create-blocks-from", "openmetrics", history, data],
        check=True,
        capture_output=True,
    )
    config.write_text("{}\n")
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [
            binaries["prometheus"],
            f"--config.file={config}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
    )
    try:
        _until_ready(url)
        yield url
    finally:
        process.terminate()
        process.wait()


def _until_ready(url: str) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            assert time.monotonic() < deadline_s, "Prometheus is not ready"
        time.sleep(0.1)
