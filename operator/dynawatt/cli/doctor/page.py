"""What ``dynawatt doctor`` prints: one line for each check, and what to do below it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final

from dynawatt.cli.doctor.check import Check, Outcome, counted
from dynawatt.cli.layout import Paint, wrapped

_COLOURS: Final = {
    Outcome.OK: "green",
    Outcome.WARNING: "yellow",
    Outcome.FAILED: "red",
    Outcome.SKIPPED: "cyan",
}


def page(checks: Sequence[Check], paint: Paint) -> str:
    """All checks by what they are about, and the sum."""
    lines: list[str] = []
    for about, those in groupby(checks, key=lambda check: check.about):
        lines += [paint(about, "bold"), *(line for check in those for line in _lines(check, paint)), ""]
    return "\n".join([*lines, summary(checks)]) + "\n"


def _lines(check: Check, paint: Paint) -> Iterator[str]:
    word = f"{check.outcome.value:<8}"
    first, *rest = wrapped(f"{check.name}: {check.message}", " " * 12, f"  {word}  ")
    yield first.replace(word, paint(word, _COLOURS[check.outcome]), 1)
    yield from rest
    if check.remedy:
        yield from wrapped(check.remedy, " " * 15, " " * 12 + "-> ")
    if check.command:
        yield " " * 15 + check.command  # in one piece, to be copied


def summary(checks: Sequence[Check]) -> str:
    """How many ended how."""
    counts = Counter(check.outcome for check in checks)
    parts = [f"{counts[Outcome.OK]} ok"]
    if counts[Outcome.WARNING]:
        parts.append(counted(counts[Outcome.WARNING], "warning"))
    parts += [f"{counts[each]} {each.value}" for each in (Outcome.FAILED, Outcome.SKIPPED) if counts[each]]
    return ", ".join(parts)


def to_json(checks: Sequence[Check]) -> dict[str, Any]:
    """The same as data."""
    counts = Counter(check.outcome for check in checks)
    return {
        "healthy": not counts[Outcome.FAILED],
        "counts": {outcome.value: counts[outcome] for outcome in Outcome},
        "checks": [
            {
                "about": check.about,
                "name": check.name,
                "outcome": check.outcome.value,
                "message": check.message,
                "remedy": check.remedy or None,
                "command": check.command or None,
            }
            for check in checks
        ],
    }
