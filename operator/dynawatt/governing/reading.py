"""What a governor sees of its pod once per second: one scrape of vLLM's metrics."""

from math import inf
from typing import NamedTuple


class PodReading(NamedTuple):
    """Gauges, and counters since the engine started. What a scrape lacks is None; both None and NaN are not known."""

    running: float | None
    """``vllm:num_requests_running``"""
    waiting: float | None
    """``vllm:num_requests_waiting``"""
    kv_usage: float | None
    """``vllm:kv_cache_usage_perc``, 0 to 1."""
    finished: float | None
    """``vllm:request_success_total`` over all reasons."""
    first_tokens: float | None
    """``vllm:time_to_first_token_seconds_count``"""
    first_tokens_met: float | None
    """Those within the objective."""
    gaps: float | None
    """``vllm:inter_token_latency_seconds_count``"""
    gaps_met: float | None
    """Its bucket that ends at the TBT objective."""
    prompt_tokens: float | None
    """``vllm:prompt_tokens_total``"""
    generation_tokens: float | None
    """``vllm:generation_tokens_total``"""

    @property
    def is_known(self) -> bool:
        """Whether all of it are numbers that can be."""
        # A comparison with NaN is false, one with None is an error.
        return None not in self and all(0 <= value < inf for value in self)  # type: ignore[operator]
