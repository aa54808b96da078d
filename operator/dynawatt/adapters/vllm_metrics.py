"""What a vLLM service is doing, from its own metrics in Prometheus: a fixed, small number of queries.

Arrivals are counted at the first token, because vLLM has no counter of arriving
requests: first tokens per second plus the growth of the queue.
"""

import asyncio
import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from dynawatt.adapters.vllm_load.histograms import histogram_of, mix_of, slot_row
from dynawatt.adapters.vllm_load.source import LoadObservation
from dynawatt.ports import MetricsSource, MetricsUnavailable, Sample


async def observe(
    source: MetricsSource,
    *,
    namespace: str,
    deployment: str,
    pods: Collection[str],
    rate_window_s: int,
    mix_window_s: int,
) -> LoadObservation:
    """Look at all pods of a Deployment, those that are stopping included: their requests are load as well.

    ``pods`` must all be present in the metrics: a pod that is not scraped would look like missing load.
    Raises MetricsUnavailable, naming the query.
    """
    selector = _selector(namespace, deployment)

    def increase(family: str, by: str = "") -> str:
        return f"sum {by}(increase(vllm:{family}{{{selector}}}[{mix_window_s}s]))"

    queue, first_tokens, growth, inputs, outputs, input_sum, output_sum, ttft, tbt = await asyncio.gather(
        source.query(f"sum by (pod) (vllm:num_requests_waiting{{{selector}}})"),
        source.query(f"sum(rate(vllm:time_to_first_token_seconds_count{{{selector}}}[{rate_window_s}s]))"),
        source.query(f"clamp_min(sum(deriv(vllm:num_requests_waiting{{{selector}}}[{rate_window_s}s])), 0)"),
        source.query(increase("request_prompt_tokens_bucket", "by (le) ")),
        source.query(increase("request_generation_tokens_bucket", "by (le) ")),
        source.query(increase("request_prompt_tokens_sum")),
        source.query(increase("request_generation_tokens_sum")),
        source.query(increase("time_to_first_token_seconds_bucket", "by (le) ")),
        source.query(increase("inter_token_latency_seconds_bucket", "by (le) ")),
    )
    missing = sorted(set(pods) - {sample.labels.get("pod", "") for sample in queue})
    if missing:
        raise MetricsUnavailable(
            f"vllm:num_requests_waiting is missing for pod {', '.join(missing[:3])}"
            f"{' and others' if len(missing) > 3 else ''}: does Prometheus scrape every vLLM pod with the labels "
            "namespace and pod?"
        )
    rate_rps = _number(first_tokens, "rate of vllm:time_to_first_token_seconds_count") + _number(
        growth, "growth of vllm:num_requests_waiting"
    )
    input_lengths = histogram_of(inputs)
    return LoadObservation(
        rate_rps=rate_rps,
        finished_requests=input_lengths[-1][1] if input_lengths else 0.0,
        mix=mix_of(input_lengths, histogram_of(outputs), _sum(input_sum), _sum(output_sum)),
        ttft=histogram_of(ttft),
        tbt=histogram_of(tbt),
    )


async def arrivals_before(
    source: MetricsSource, *, namespace: str, deployment: str, until_s: float, slot_s: int, slots: int
) -> tuple[float, NDArray[np.float64]]:
    """Requests of a Deployment by slot, as far back as Prometheus knows them, for a forecast to learn from.

    Counted at the first token. Returns the Unix time at which the first slot begins and one count per slot, NaN where
    nothing is known. Raises MetricsUnavailable, naming the query.
    """
    end_s = math.floor(until_s / slot_s) * slot_s
    start_s = end_s - slots * slot_s
    counter = f"vllm:time_to_first_token_seconds_count{{{_selector(namespace, deployment)}}}"
    series = await source.query_range(f"sum(increase({counter}[{slot_s}s]))", start_s + slot_s, end_s, slot_s)
    return float(start_s), slot_row(series, start_s, slots, slot_s)


def _selector(namespace: str, deployment: str) -> str:
    return f'namespace="{namespace}",pod=~"{deployment}-[a-z0-9]+-[a-z0-9]+"'


def _number(samples: Sequence[Sample], what: str) -> float:
    if len(samples) != 1 or not math.isfinite(samples[0].value):
        found = "no series" if not samples else str(samples[0].value)
        raise MetricsUnavailable(f"{what} gave {found}: must be one number; is vLLM scraped with a short interval?")
    return samples[0].value


def _sum(samples: Sequence[Sample]) -> float:
    return samples[0].value if samples else math.nan
