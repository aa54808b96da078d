"""One pod's ``/metrics`` as its governor reads it: nine families out of some ninety, in a fraction of a millisecond.

Whatever a page lacks, or has as no finite number, is None and never 0, so that a
governor does not mistake a page that it cannot read for a pod without load. A
line that was cut off at the end does not count.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final

from dynawatt.adapters import vllm_names
from dynawatt.adapters.vllm_series import names_in_page, series_in, series_pattern
from dynawatt.governing.reading import PodReading

_RUNNING: Final = names_in_page(vllm_names.RUNNING)
_WAITING: Final = names_in_page(vllm_names.WAITING)
_KV_USAGE: Final = names_in_page(vllm_names.KV_USAGE)
_FINISHED: Final = names_in_page(vllm_names.FINISHED, "_total")
_TTFT: Final = names_in_page(vllm_names.TTFT)
_TBT: Final = names_in_page(vllm_names.TBT)
_PROMPT_TOKENS: Final = names_in_page(vllm_names.PROMPT_TOKENS, "_total")
_GENERATION_TOKENS: Final = names_in_page(vllm_names.GENERATION_TOKENS, "_total")
_SERIES: Final = series_pattern(
    (
        *_RUNNING, *_WAITING, *_KV_USAGE, *_FINISHED, *_PROMPT_TOKENS, *_GENERATION_TOKENS,
        *(family + suffix for family in (*_TTFT, *_TBT) for suffix in (b"_count", b"_bucket")),
    )
)  # fmt: skip
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
    for name, bound, value in series_in(page, _SERIES):
        if name.endswith(b"_bucket"):
            buckets.setdefault(name.removesuffix(b"_bucket"), {}).setdefault(bound, []).append(value)
        else:
            values.setdefault(name, []).append(value)
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
