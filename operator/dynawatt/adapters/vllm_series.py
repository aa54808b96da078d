"""Finds the series of chosen families in a page of vLLM's metrics, in Prometheus' text format.

All others, some eighty families, are passed over by one regular expression, which
takes a fraction of a millisecond where a parser of the format takes many.
"""

import re
from collections.abc import Iterable, Iterator
from math import inf, nan
from typing import Final

from dynawatt.adapters.vllm_names import PREFIX

_QUOTED: Final = rb'"[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"'
_LABELS: Final = rb"(?:\{([^\"}\n]*+(?:" + _QUOTED + rb"[^\"}\n]*+)*+)\})?"
# Possessive quantifiers: no line, however odd, is looked at twice.
_REST: Final = _LABELS + rb"[ \t]++([^\s]++)[^\n]*+(?=\n)"
_UPPER_BOUND: Final = re.compile(rb'(?:^|[,\s])le="([^"]*)"')


def names_in_page(family: tuple[str, ...], suffix: str = "") -> tuple[bytes, ...]:
    """Of the series of a family, newest first, without what all names of vLLM begin with."""
    return tuple((name + suffix).encode() for name in family)


def series_pattern(names: Iterable[bytes]) -> re.Pattern[bytes]:
    """Of series with these names."""
    return re.compile(rb"\n" + PREFIX.encode() + rb"(" + b"|".join(names) + rb")" + _REST)


def series_in(page: bytes, pattern: re.Pattern[bytes]) -> Iterator[tuple[bytes, float, float]]:
    """Name, upper bound and value of each series; the bound is NaN where there is none, as is what is no number.

    A line that was cut off at the end of the page does not count.
    """
    for name, labels, text in pattern.findall(b"\n" + page):
        bound = nan
        if name.endswith(b"_bucket"):
            found = _UPPER_BOUND.search(labels)
            bound = _number(found[1]) if found else nan
        yield name, bound, _number(text)


def _number(text: bytes) -> float:
    try:
        return inf if text == b"+Inf" else float(text)
    except ValueError:
        return nan
