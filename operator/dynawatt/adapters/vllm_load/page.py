"""One pod's page as the load of its service is counted from it: all engines together, under the newest names."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from dynawatt.adapters import vllm_names
from dynawatt.adapters.vllm_series import names_in_page, series_in, series_pattern

Key: TypeAlias = tuple[str, float]
"""What is counted, and the upper bound of its bucket; 0 for what has no buckets."""

_COUNTERS: Final = {
    "finished": names_in_page(vllm_names.FINISHED, "_total"),
    "first_tokens": names_in_page(vllm_names.TTFT, "_count"),
    "generated": names_in_page(vllm_names.GENERATION_TOKENS, "_total"),
    "input_sum": names_in_page(vllm_names.INPUT_LENGTH, "_sum"),
    "output_sum": names_in_page(vllm_names.OUTPUT_LENGTH, "_sum"),
    "ttft": names_in_page(vllm_names.TTFT, "_bucket"),
    "tbt": names_in_page(vllm_names.TBT, "_bucket"),
    "inputs": names_in_page(vllm_names.INPUT_LENGTH, "_bucket"),
    "outputs": names_in_page(vllm_names.OUTPUT_LENGTH, "_bucket"),
}
_GAUGES: Final = {
    "running": names_in_page(vllm_names.RUNNING),
    "waiting": names_in_page(vllm_names.WAITING),
    "kv_usage": names_in_page(vllm_names.KV_USAGE),
}
_NEEDED: Final = frozenset((_COUNTERS | _GAUGES).keys() - {"kv_usage", "generated"})
_PATTERN: Final = series_pattern(name for names in (_COUNTERS | _GAUGES).values() for name in names)


class PodPage(NamedTuple):
    """What a pod tells at one moment."""

    running: float
    waiting: float
    kv_usage: float | None
    """Of its fullest engine."""
    counts: Mapping[Key, float]
    """That only grow while the process lives."""


class PageError(ValueError):
    """The page lacks what is needed; the message says what."""


def pod_page(page: bytes) -> PodPage:
    """Read a page. Raises PageError."""
    found: dict[bytes, list[tuple[float, float]]] = defaultdict(list)
    for name, bound, value in series_in(page, _PATTERN):
        found[name].append((bound, value))
    told: dict[str, list[tuple[float, float]]] = {}
    for what, names in (_COUNTERS | _GAUGES).items():
        told[what] = next((found[name] for name in names if name in found), [])
        if not told[what] and what in _NEEDED:
            raise PageError(f"the page does not tell {_in_full(names[0])}: does vLLM listen there?")
        if not all(math.isfinite(value) for _, value in told[what]):
            raise PageError(f"{_in_full(names[0])} is no number")
    counts: dict[Key, float] = defaultdict(float)
    for what in _COUNTERS:
        for bound, value in told[what]:
            counts[what, 0.0 if math.isnan(bound) else bound] += value
    return PodPage(
        running=sum(value for _, value in told["running"]),
        waiting=sum(value for _, value in told["waiting"]),
        kv_usage=max((value for _, value in told["kv_usage"]), default=None),
        counts=counts,
    )


def _in_full(name: bytes) -> str:
    return vllm_names.PREFIX + name.decode()
