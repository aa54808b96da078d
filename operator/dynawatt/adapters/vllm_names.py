"""The metric families of vLLM that changed their names, newest first; the only place that knows.

vLLM deprecates a name in one minor release, hides it in the next and removes it in
the one after that, so that for a while a pod may tell a number under two names, and
pods of one service may run different releases. Whoever reads a family takes the
first of its names that a pod has. Counters and histograms get ``_total``,
``_bucket``, ``_sum`` and ``_count`` behind these names, as everywhere.
"""

from typing import Final

PREFIX: Final = "vllm:"

TBT: Final = ("inter_token_latency_seconds", "time_per_output_token_seconds")
"""The old one is deprecated in 0.11, hidden in 0.12, gone in 0.13."""
KV_USAGE: Final = ("kv_cache_usage_perc", "gpu_cache_usage_perc")
"""The old one is deprecated in 0.9.2, hidden in 0.10, gone in 0.12."""
PREFIX_QUERIES: Final = ("prefix_cache_queries", "gpu_prefix_cache_queries")
PREFIX_HITS: Final = ("prefix_cache_hits", "gpu_prefix_cache_hits")
"""As the usage of the KV cache."""

RUNNING: Final = ("num_requests_running",)
"""In every release, and there before the first request."""
WAITING: Final = ("num_requests_waiting",)
FINISHED: Final = ("request_success",)
"""Requests that ended by themselves. Those that clients gave up never count, whatever the label ``finished_reason``
may promise (vLLM #31503, #55634)."""
TTFT: Final = ("time_to_first_token_seconds",)
PREFILL_TIME: Final = ("request_prefill_time_seconds",)
"""From the first iteration that worked on a prompt to its first token; recorded when the request ends."""
ITERATION_TOKENS: Final = ("iteration_tokens_total",)
"""A histogram, in spite of its name: its count is that of iterations."""
PROMPT_TOKENS: Final = ("prompt_tokens",)
GENERATION_TOKENS: Final = ("generation_tokens",)
INPUT_LENGTH: Final = ("request_prompt_tokens",)
OUTPUT_LENGTH: Final = ("request_generation_tokens",)
"""Both lengths are recorded when a request ends."""


def series_names(family: tuple[str, ...], suffix: str = "") -> tuple[str, ...]:
    """All names under which the series of a family may be found, newest first."""
    return tuple(f"{PREFIX}{name}{suffix}" for name in family)
