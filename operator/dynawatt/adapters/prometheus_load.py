"""The recent load of a vLLM service, from a Prometheus that already scrapes it.

Requests are counted as they finish, in slots of five minutes; counters that began
anew, because a pod did, are Prometheus' own business. Lengths come from two
histograms that know nothing of each other, and nothing tells how bursty the
arrivals are.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dynawatt.adapters import vllm_names
from dynawatt.adapters.prometheus import Prometheus
from dynawatt.adapters.vllm_load.histograms import histogram_of, slot_row
from dynawatt.adapters.vllm_load.scope import ADDRESS_LABEL, NAMESPACE_LABELS, POD_LABELS
from dynawatt.adapters.vllm_names import series_names
from dynawatt.adapters.vllm_services import VllmService
from dynawatt.errors import InvalidInputError
from dynawatt.ports import Sample
from dynawatt.workload.mix import Histogram, LengthMix, mix_from_histograms

SLOT_S: Final = 300
_MIX_REQUESTS: Final = 4096
_FEWEST_REQUESTS: Final = 20
"""Fewer say nothing of a 99th percentile, or of a mix."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RecordedLoad:
    """What a service was asked, and what it measured of itself; arrays have one entry per slot."""

    start_s: float
    """Unix time at which the first slot begins."""
    rate_rps: Numbers
    """Requests that finished per second; NaN where Prometheus knows nothing."""
    replicas: Numbers
    """vLLM processes at the end of each slot; NaN likewise."""
    mix: LengthMix
    """Estimated: input and output lengths are drawn independently from their histograms."""
    finished_requests: float
    ttft: Histogram
    tbt: Histogram
    """Cumulative counts by upper bound in seconds; empty where vLLM exports none."""
    prefix_hit_ratio: float
    """Part of all prompt tokens found in the prefix cache; 0 where it is off or not measured."""
    kv_cache_tokens: int | None
    """That one replica's KV cache holds."""


async def read_load(source: Prometheus, service: VllmService, *, hours: float, now_s: float) -> RecordedLoad:
    """The load of the last ``hours``, in whole slots that have ended.

    Raises InvalidInputError when there is too little of it, and MetricsUnavailable when Prometheus does not answer.
    """
    end_s = math.floor(now_s / SLOT_S) * SLOT_S
    slots = max(1, round(hours * 3600 / SLOT_S))
    start_s = end_s - slots * SLOT_S
    window = f"[{slots * SLOT_S}s]"
    its = service.selector

    def increase(family: tuple[str, ...], suffix: str, by: str = "") -> str:
        """Under the newest of its names that there is."""
        return " or ".join(f"sum {by}(increase({name}{{{its}}}{window}))" for name in series_names(family, suffix))

    one_pod = ",".join((*NAMESPACE_LABELS, *POD_LABELS, ADDRESS_LABEL))
    by_slot = (
        f"sum(increase(vllm:request_success_total{{{its}}}[{SLOT_S}s]))",
        f"count(count by ({one_pod}) (vllm:num_requests_running{{{its}}}))",
    )
    at_once = (
        increase(vllm_names.INPUT_LENGTH, "_bucket", by="by (le) "),
        increase(vllm_names.OUTPUT_LENGTH, "_bucket", by="by (le) "),
        increase(vllm_names.INPUT_LENGTH, "_sum"),
        increase(vllm_names.OUTPUT_LENGTH, "_sum"),
        increase(vllm_names.TTFT, "_bucket", by="by (le) "),
        increase(vllm_names.TBT, "_bucket", by="by (le) "),
        increase(vllm_names.PREFIX_HITS, "_total"),
        increase(vllm_names.PREFIX_QUERIES, "_total"),
        f"vllm:cache_config_info{{{service.matchers}}}",
    )
    (rates, counts), answers = await asyncio.gather(
        asyncio.gather(*(source.query_range(each, start_s + SLOT_S, end_s, SLOT_S) for each in by_slot)),
        asyncio.gather(*map(source.query, at_once)),
    )
    inputs, outputs, input_sum, output_sum, ttft, tbt, hits, queries, cache = answers
    rate_rps = slot_row(rates, start_s, slots, SLOT_S) / SLOT_S
    found = f"of {service} in the last {slots * SLOT_S / 3600:g} hours"
    if not np.isfinite(rate_rps).any():
        raise InvalidInputError(
            f"vllm:request_success_total {found} has no two samples within five minutes: does Prometheus scrape it at "
            "least every two minutes? Otherwise look further back with --hours"
        )
    mix, finished = _mix(inputs, outputs, input_sum, output_sum, found)
    return RecordedLoad(
        start_s=float(start_s),
        rate_rps=rate_rps,
        replicas=slot_row(counts, start_s, slots, SLOT_S),
        mix=mix,
        finished_requests=finished,
        ttft=histogram_of(ttft),
        tbt=histogram_of(tbt),
        prefix_hit_ratio=_ratio(_value(hits), _value(queries)),
        kv_cache_tokens=_kv_tokens(cache),
    )


def _mix(
    inputs: Sequence[Sample],
    outputs: Sequence[Sample],
    input_sum: Sequence[Sample],
    output_sum: Sequence[Sample],
    found: str,
) -> tuple[LengthMix, float]:
    input_rows, output_rows = histogram_of(inputs), histogram_of(outputs)
    requests = [rows[-1][1] if rows else 0.0 for rows in (input_rows, output_rows)]
    if min(requests) < _FEWEST_REQUESTS:
        raise InvalidInputError(
            f"{min(requests):.0f} requests {found} finished with their lengths recorded: at least {_FEWEST_REQUESTS} "
            "are needed; look further back with --hours"
        )
    mix = mix_from_histograms(
        input_rows,
        output_rows,
        mean_input=_value(input_sum) / requests[0],
        mean_output=_value(output_sum) / requests[1],
        size=_MIX_REQUESTS,
    )
    return mix, min(requests)


def _value(samples: Sequence[Sample]) -> float:
    """The only sample, or NaN."""
    return samples[0].value if len(samples) == 1 else math.nan


def _ratio(part: float, whole: float) -> float:
    return min(1.0, part / whole) if math.isfinite(part) and whole > 0 else 0.0


def _kv_tokens(samples: Sequence[Sample]) -> int | None:
    """The largest KV cache, in tokens; replicas of one service have nearly the same."""
    sizes = []
    for sample in samples:
        blocks, tokens = sample.labels.get("num_gpu_blocks", ""), sample.labels.get("block_size", "")
        if blocks.isdecimal() and tokens.isdecimal():
            sizes.append(int(blocks) * int(tokens))
    return max(sizes, default=None)
