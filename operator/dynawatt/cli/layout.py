"""Plain text for terminals: wrapped sentences, tables that fit, colour only where it is wanted."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import typer

WIDTH: Final = 80
_GAP: Final = "  "
_LEAST: Final = 10
"""Columns that are cut keep so many characters."""

Paint: TypeAlias = Callable[[str, str], str]
"""Text and a colour, as ``typer.style`` names them, or `bold` or `dim`."""


def plain(text: str, _colour: str) -> str:
    """No colour."""
    return text


def coloured(text: str, colour: str) -> str:
    """With escape sequences."""
    if colour in ("bold", "dim"):
        return typer.style(text, bold=colour == "bold" or None, dim=colour == "dim" or None)
    return typer.style(text, fg=colour)


def choose_paint() -> Paint:
    """Colour on a terminal, unless NO_COLOR is set to anything."""
    return coloured if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else plain


def wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """A sentence in lines; ``first`` is the indent of the first one where it is another. Words stay whole."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), indent: str = "  ") -> Iterator[str]:
    """Columns as wide as they need; the last one is wrapped, and others that leave it no room lose their middle.

    ``right`` are the columns whose text stands at the right.
    """
    columns = range(len(rows[0]) - 1)
    widths = [max(len(row[column]) for row in rows) for column in columns]
    room = WIDTH - len(indent) - len(_GAP) * len(widths)
    last = min(max(len(row[-1]) for row in rows), room // 2)
    while sum(widths) + last > room and max(widths, default=0) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    for row in rows:
        cells = [_shortened(row[column], widths[column]) for column in columns]
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        first = indent + _GAP.join([*cells, ""])
        text = " ".join(_shortened(word, WIDTH - len(first)) for word in row[-1].split())
        yield from wrapped(text, " " * len(first), first) or [first.rstrip()]


def _shortened(text: str, width: int) -> str:
    """Without its middle where it is too long: names differ at their ends."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
