"""Counters, gauges and histograms that cost little per token, and their Prometheus text.

prometheus_client takes a lock and walks all buckets for every observation; here
a histogram takes many equal observations at once, and what never changes of the
text is rendered once.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

from prometheus_client.utils import floatToGoString

Labels = Mapping[str, str]


def number(value: float) -> str:
    """A number as prometheus_client writes it."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def series(name: str, labels: Labels) -> str:
    """A series as the text format writes it, labels in alphabetical order, with the blank before the value."""
    pairs = ",".join(f'{key}="{_escape(value)}"' for key, value in sorted(labels.items()))
    return f"{name}{{{pairs}}} " if pairs else f"{name} "


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Value:
    """One series of a counter or a gauge."""

    __slots__ = ("labels", "value")

    def __init__(self, labels: Labels) -> None:
        self.labels: Final = dict(labels)
        self.value = 0.0


class Distribution:
    """One series of a histogram, or of a summary when there are no bounds."""

    __slots__ = ("bounds", "counts", "labels", "sum")

    def __init__(self, labels: Labels, bounds: Sequence[float] = ()) -> None:
        self.labels: Final = dict(labels)
        self.bounds: Final = list(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count ``value`` as seen ``times`` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


class Family:
    """All series of one metric, which all exist from ``created_unix_s`` on."""

    def __init__(
        self,
        name: str,
        kind: Literal["counter", "gauge", "histogram", "summary"],
        members: Sequence[Value | Distribution],
        created_unix_s: float,
        help_text: str,
    ) -> None:
        exposed = f"{name}_total" if kind == "counter" else name
        self._head = f"# HELP {exposed} {help_text}\n# TYPE {exposed} {kind}\n"
        self._tail = ""
        if kind != "gauge" and members:
            self._tail = f"# HELP {name}_created {help_text}\n# TYPE {name}_created gauge\n" + "".join(
                f"{series(f'{name}_created', member.labels)}{created_unix_s!r}\n" for member in members
            )
        self._members = members
        self._prefixes = [list(_prefixes(exposed, member)) for member in members]

    def render(self) -> str:
        """The family's text."""
        lines = [self._head]
        for member, prefixes in zip(self._members, self._prefixes, strict=True):
            if isinstance(member, Value):
                lines.append(f"{prefixes[0]}{number(member.value)}\n")
                continue
            total = 0
            for prefix, count in zip(prefixes[2:], member.counts, strict=False):
                total += count
                lines.append(f"{prefix}{total}.0\n")
            lines.append(f"{prefixes[0]}{sum(member.counts)}.0\n{prefixes[1]}{number(member.sum)}\n")
        lines.append(self._tail)
        return "".join(lines)


def _prefixes(exposed: str, member: Value | Distribution) -> Iterator[str]:
    """The text before each number: of a value its only one, else count, sum and buckets."""
    if isinstance(member, Value):
        yield series(exposed, member.labels)
        return
    yield series(f"{exposed}_count", member.labels)
    yield series(f"{exposed}_sum", member.labels)
    if member.bounds:
        for bound in (*member.bounds, float("inf")):
            yield series(f"{exposed}_bucket", {**member.labels, "le": number(bound)})
