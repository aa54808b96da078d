"""The metric families of vLLM 0.32 for one simulated replica, with the same names, labels, types and buckets.

Families about what the simulation does not have (prefix cache, multi-modal
input, sleep, FLOP estimates, queue limits) exist and stay at 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dynawatt.sandbox.nodesim.exposition import Distribution, Family, Value

HELP: Final = "As in vLLM 0.32, of a simulated replica."
BLOCK_TOKENS: Final = 16  # vLLM's KV block size on CUDA

_UNLABELLED: Final[tuple[str, tuple[str, ...]]] = ("", ("",))
_SOURCES: Final = ("local_compute", "local_cache_hit", "external_kv_transfer")
_TIERS: Final = ("device", "host", "p2p", "disk", "external_unspecified")
_FINISHED: Final = ("stop", "length", "abort", "error", "repetition")

_COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "vllm:estimated_flops_per_gpu": _UNLABELLED,
    "vllm:estimated_read_bytes_per_gpu": _UNLABELLED,
    "vllm:estimated_write_bytes_per_gpu": _UNLABELLED,
    "vllm:prefix_cache_queries": _UNLABELLED,
    "vllm:prefix_cache_hits": _UNLABELLED,
    "vllm:external_prefix_cache_queries": _UNLABELLED,
    "vllm:external_prefix_cache_hits": _UNLABELLED,
    "vllm:mm_cache_queries": _UNLABELLED,
    "vllm:mm_cache_hits": _UNLABELLED,
    "vllm:num_preemptions": _UNLABELLED,
    "vllm:prompt_tokens": _UNLABELLED,
    "vllm:prompt_tokens_by_source": ("source", _SOURCES),
    "vllm:prompt_tokens_cached": _UNLABELLED,
    "vllm:prompt_tokens_cached_by_source": ("source", _TIERS),
    "vllm:generation_tokens": _UNLABELLED,
    "vllm:request_success": ("finished_reason", _FINISHED),
    "vllm:admission_rejections": ("reason", ("max_num_queued_reqs", "max_num_queued_tokens")),
}
_GAUGES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "vllm:num_requests_running": _UNLABELLED,
    "vllm:num_requests_waiting": _UNLABELLED,
    "vllm:num_requests_waiting_by_reason": ("reason", ("capacity", "deferred")),
    "vllm:engine_sleep_state": ("sleep_state", ("awake", "weights_offloaded", "discard_all")),
    "vllm:kv_cache_usage_perc": _UNLABELLED,
}
_WITHOUT_ENGINE: Final = frozenset({"vllm:admission_rejections"})

_TTFT_S: Final = (
    .001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560,
)  # fmt: skip
_TOKEN_GAP_S: Final = (
    .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80,
)  # fmt: skip
_REQUEST_S: Final = (
    .3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680,
)  # fmt: skip
_STEP_TOKENS: Final = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_HISTOGRAMS: Final[Mapping[str, Sequence[float] | None]] = {
    "vllm:request_prompt_tokens": None,  # None: 1-2-5 series up to the longest sequence
    "vllm:request_generation_tokens": None,
    "vllm:iteration_tokens_total": _STEP_TOKENS,
    "vllm:request_max_num_generation_tokens": None,
    "vllm:request_params_n": (1, 2, 5, 10, 20),
    "vllm:request_params_max_tokens": None,
    "vllm:time_to_first_token_seconds": _TTFT_S,
    "vllm:inter_token_latency_seconds": _TOKEN_GAP_S,
    "vllm:request_time_per_output_token_seconds": _TOKEN_GAP_S,
    "vllm:e2e_request_latency_seconds": _REQUEST_S,
    "vllm:request_queue_time_seconds": _REQUEST_S,
    "vllm:request_inference_time_seconds": _REQUEST_S,
    "vllm:request_prefill_time_seconds": _REQUEST_S,
    "vllm:request_decode_time_seconds": _REQUEST_S,
    "vllm:request_num_preemptions": (1, 2, 3, 4, 5, 10, 20),
    "vllm:request_prefill_kv_computed_tokens": None,
}
# CacheConfig of a plain bf16 model; only the sizes differ between replicas.
_CACHE_CONFIG: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "cache_hit_alignment_tokens", "hash_block_size", "kv_cache_layout", "kv_offloading_size",
            "mamba_block_size", "mamba_page_size_padded", "num_cpu_blocks", "num_gpu_blocks_override",
            "prefix_match_unit", "skip_page_size_padded", "sliding_window", "kv_cache_memory_bytes",
        ),
        "None",
    ),
    **dict.fromkeys(
        (
            "enable_mamba_shared_prefix_checkpoint", "enable_prefix_caching", "is_attention_free",
            "kv_sharing_fast_prefill", "use_kda_recoverssm", "use_replayssm", "user_specified_block_size",
        ),
        "False",
    ),
    "_block_size_resolved": "True",
    "block_size": str(BLOCK_TOKENS),
    "cache_dtype": "auto",
    "effective_attention_block_size": str(BLOCK_TOKENS),
    "gpu_memory_utilization": "0.9",
    "kv_cache_dtype_skip_layers": "[]",
    "kv_offloading_backend": "native",
    "mamba_cache_dtype": "auto",
    "mamba_cache_mode": "none",
    "mamba_ssm_cache_dtype": "float32",
    "prefix_cache_retention_interval": "0",
    "prefix_caching_hash_algo": "sha256",
    "replayssm_buffer_len": "16",
    "swa_bounded_replay": "True",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """What vLLM records of a request that ran to its end; times in seconds."""

    input_tokens: int
    output_tokens: int
    max_tokens: int
    preemptions: int
    arrival_s: float
    scheduled_s: float
    first_token_s: float
    last_token_s: float


class VllmMetrics:
    """One replica's metrics. Gauges are set by whoever asks for the text."""

    def __init__(
        self, *, model_name: str, max_model_len: int, max_num_seqs: int, kv_capacity_tokens: int, created_unix_s: float
    ) -> None:
        replica = {"engine": "0", "model_name": model_name}
        families: list[Family] = []
        self._values: dict[tuple[str, str], Value] = {}
        for kind, table in (("counter", _COUNTERS), ("gauge", _GAUGES)):
            for name, (label, label_values) in table.items():
                base = {"model_name": model_name} if name in _WITHOUT_ENGINE else replica
                members = [Value({**base, label: value} if label else base) for value in label_values]
                self._values.update({(name, v): m for v, m in zip(label_values, members, strict=True)})
                families.append(Family(name, kind, members, created_unix_s, HELP))  # type: ignore[arg-type]
        self._distributions: dict[str, Distribution] = {}
        for name, bounds in _HISTOGRAMS.items():
            distribution = Distribution(replica, one_two_five(max_model_len) if bounds is None else bounds)
            self._distributions[name] = distribution
            families.append(Family(name, "histogram", [distribution], created_unix_s, HELP))
        cache = Value(
            {
                **_CACHE_CONFIG,
                "engine": "0",
                "kv_cache_max_concurrency": str(float(min(max_num_seqs, kv_capacity_tokens / max_model_len))),
                "kv_cache_size_tokens": str(kv_capacity_tokens),
                "num_gpu_blocks": str(kv_capacity_tokens // BLOCK_TOKENS),
            }
        )
        cache.value = 1.0
        families.append(Family("vllm:cache_config_info", "gauge", [cache], created_unix_s, HELP))
        self._families = families
        self.set("vllm:engine_sleep_state", 1.0, "awake")

    def count(self, name: str, amount: float = 1.0, label_value: str = "") -> None:
        """Add to a counter; ``label_value`` is that of its own label."""
        self._values[name, label_value].value += amount

    def set(self, name: str, value: float, label_value: str = "") -> None:
        """Set a gauge, or a counter that is kept elsewhere."""
        self._values[name, label_value].value = value

    def observe(self, name: str, value: float, times: int = 1) -> None:
        """Add to a histogram."""
        self._distributions[name].observe(value, times)

    def record_finished(self, done: FinishedRequest) -> None:
        """Observe everything that vLLM observes when a request has got all its tokens."""
        decode_s = done.last_token_s - done.first_token_s
        self.count("vllm:request_success", 1, "length")
        for name, value in (
            ("vllm:request_prompt_tokens", done.input_tokens),
            ("vllm:request_prefill_kv_computed_tokens", done.input_tokens),
            ("vllm:request_generation_tokens", done.output_tokens),
            ("vllm:request_max_num_generation_tokens", done.max_tokens),
            ("vllm:request_params_max_tokens", done.max_tokens),
            ("vllm:request_params_n", 1),
            ("vllm:request_num_preemptions", done.preemptions),
            ("vllm:request_time_per_output_token_seconds", decode_s / max(1, done.output_tokens - 1)),
            ("vllm:e2e_request_latency_seconds", done.last_token_s - done.arrival_s),
            ("vllm:request_queue_time_seconds", max(0.0, done.scheduled_s - done.arrival_s)),
            ("vllm:request_inference_time_seconds", done.last_token_s - done.scheduled_s),
            ("vllm:request_prefill_time_seconds", done.first_token_s - done.scheduled_s),
            ("vllm:request_decode_time_seconds", decode_s),
        ):
            self._distributions[name].observe(value)

    def render(self) -> str:
        """The Prometheus text of all families."""
        return "".join(family.render() for family in self._families)


def one_two_five(limit: int) -> list[float]:
    """1, 2, 5, 10, 20, 50, ... up to ``limit``."""
    return [float(m * 10**e) for e in range(len(str(limit))) for m in (1, 2, 5) if m * 10**e <= limit]
