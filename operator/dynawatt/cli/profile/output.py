"""What the profile commands share on their way out."""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from dynawatt.errors import InvalidInputError

JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE|-", help="Write JSON instead of text; - is standard output.")
]

CLOCK_AXIS: Final = (
    "The clock axis is model-derived, not measured on this GPU: what a lower clock saves in power is uncertain "
    "by the band."
)


def write_json(content: Any, target: str) -> None:
    """Write to a file, or to standard output for ``-``. Raises InvalidInputError."""
    text = json.dumps(content, indent=1, allow_nan=False)
    if target == "-":
        typer.echo(text)
        return
    try:
        Path(target).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"--json {target}: {error.strerror}; give a file that can be written") from error


def console() -> Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=160)


def percent(share: float | None) -> str:
    """Such as ``4.2 %``; a dash where nothing is known."""
    return "-" if share is None else f"{share * 100:.1f} %"
