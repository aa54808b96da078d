"""One pod's ``/metrics`` as its governor reads it: nine families out of some ninety, in a fraction of a millisecond.

Whatever a page lacks, or has as no finite number, is None and never 0, so that a
governor does not mistake a page that it cannot read for a pod without load. A
line that was cut off at the end does not count. Knows the names of vLLM 0.33 and
those that older releases had instead.
"""

import re
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from typing import Final

from dynawatt.governing.reading import PodReading

_RUNNING: Final = (b"num_requests_running",)
_WAITING: Final = (b"num_requests_waiting",)
_KV_USAGE: Final = (b"kv_cache_usage_perc", b"gpu_cache_usage_perc")
_FINISHED: Final = (b"request_success_total",)
_TTFT: Final = (b"time_to_first_token_seconds",)
_TBT: Final = (b"inter_token_latency_seconds", b"time_per_output_token_seconds")
_PROMPT_TOKENS: Final = (b"prompt_tokens_total",)
_GENERATION_TOKENS: Final = (b"generation_tokens_total",)

_NAMES: Final = b"|".join(
    (
        *_RUNNING, *_WAITING, *_KV_USAGE, *_FINISHED, *_PROMPT_TOKENS, *_GENERATION_TOKENS,
        *(family + suffix for family in (*_TTFT, *_TBT) for suffix in (b"_count", b"_bucket")),
    )
)  # fmt: skip
_QUOTED: Final = rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"'
# Possessive quantifiers: no line, however odd, is looked at twice.
_SERIES: Final = re.compile(
    rb"\nvllm:(" + _NAMES + rb")(?:\{([^\"}\n]*+(?:" + _QUOTED + rb"[^\"}\n]*+)*+)\})?[ \t]++([^\s]++)[^\n]*+(?=\n)"
)
_UPPER_BOUND: Final = re.compile(rb'(?:^|[,\s])le="([^"]*)"')
_ROUNDING: Final = 1e-9

_Values = Mapping[bytes, Sequence[float]]
_Buckets = Mapping[bytes, Mapping[float, Sequence[float]]]


def pod_reading(page: bytes, *, tbt_s: float | None, ttft_s: float | None) -> PodReading:
    """What a page in Prometheus' text format tells, summed over engines and over the reasons for which requests end.

    Args:
        page: The whole answer of ``/metrics``.
        tbt_s: Objective of gaps. What counts as late is what surely is: a histogram tells only the bounds of its
            buckets, so an objective between two of them is rounded up to the next. None when gaps are not judged, and
            all count as in time.
        ttft_s: Objective of first tokens, in the same way; None when they are not judged, and all count as in time.
    """
    values: dict[bytes, list[float]] = {}
    buckets: dict[bytes, dict[float, list[float]]] = {}
    for name, labels, text in _SERIES.findall(b"\n" + page):
        if name.endswith(b"_bucket"):
            bound = _UPPER_BOUND.search(labels)
            upper = buckets.setdefault(name.removesuffix(b"_bucket"), {})
            upper.setdefault(_number(bound[1] if bound else b""), []).append(_number(text))
        else:
            values.setdefault(name, []).append(_number(text))
    first_tokens, gaps = _count(values, _TTFT), _count(values, _TBT)
    return PodReading(
        running=_total(values, _RUNNING),
        waiting=_total(values, _WAITING),
        kv_usage=_highest(values, _KV_USAGE),
        finished=_total(values, _FINISHED),
        first_tokens=first_tokens,
        first_tokens_met=first_tokens if ttft_s is None else _met(values, buckets, _TTFT, ttft_s),
        gaps=gaps,
        gaps_met=gaps if tbt_s is None else _met(values, buckets, _TBT, tbt_s),
        prompt_tokens=_total(values, _PROMPT_TOKENS),
        generation_tokens=_total(values, _GENERATION_TOKENS),
    )


def _present(values: _Values, names: Sequence[bytes]) -> Sequence[float]:
    """The series of the newest name that the page has."""
    return next((values[name] for name in names if name in values), ())


def _total(values: _Values, names: Sequence[bytes]) -> float | None:
    found = _present(values, names)
    return _known(sum(found)) if found else None


def _highest(values: _Values, names: Sequence[bytes]) -> float | None:
    """Of a fraction, which cannot be summed over engines."""
    found = _present(values, names)
    return max(found) if found and _known(sum(found)) is not None else None


def _count(values: _Values, families: Sequence[bytes]) -> float | None:
    return _total(values, [family + b"_count" for family in families])


def _met(values: _Values, buckets: _Buckets, families: Sequence[bytes], objective_s: float) -> float | None:
    """Observations in the buckets up to the objective."""
    family = next((name for name in families if name + b"_count" in values), b"")
    bounds = buckets.get(family, {})
    upper_s = min((bound for bound in bounds if bound >= objective_s * (1 - _ROUNDING)), default=None)
    if upper_s is None or len(bounds[upper_s]) != len(values[family + b"_count"]):
        return None  # without a bucket of every engine it would be too few
    return _known(sum(bounds[upper_s]))


def _known(value: float) -> float | None:
    return value if isfinite(value) else None


def _number(text: bytes) -> float:
    """NaN when it is none."""
    try:
        return inf if text == b"+Inf" else float(text)
    except ValueError:
        return float("nan")
