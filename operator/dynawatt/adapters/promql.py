"""Pieces of PromQL, quoted so that no value can end the string or the pattern that holds it."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

WHAT: Final = "what"
"""Label that tells the parts of one query apart."""
_LONGEST_SHOWN: Final = 240


def quoted(text: str) -> str:
    """A string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def escaped(text: str) -> str:
    """Literal text inside a pattern inside quotes."""
    return quoted(re.escape(text).replace("\\-", "-"))[1:-1]


def equals(label: str, value: str) -> str:
    """A label matcher."""
    return f"{label}={quoted(value)}"


def one_of(label: str, values: Iterable[str]) -> str:
    """A label matcher. Alternatives that hold no other pattern are looked up in the index of Prometheus, not tried."""
    return f'{label}=~"{"|".join(map(escaped, values))}"'


def joined(*matchers: str) -> str:
    """Label matchers that must all hold, each once."""
    return ",".join(dict.fromkeys(matcher.strip(" ,") for matcher in matchers if matcher.strip(" ,")))


def tagged(query: str, **labels: str) -> str:
    """The same series with more labels."""
    for label, value in labels.items():
        query = f'label_replace({query}, {quoted(label)}, {quoted(value.replace("$", "$$"))}, "", "")'
    return query


def union(parts: Sequence[str]) -> str:
    """Several queries in one; nothing of theirs is lost when each is tagged differently."""
    return " or ".join(parts)


def shown(promql: str) -> str:
    """A query for people, who need not see all names in it."""
    return promql if len(promql) <= _LONGEST_SHOWN else f"{promql[:_LONGEST_SHOWN]} ..."
