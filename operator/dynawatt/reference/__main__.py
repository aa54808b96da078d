"""``python -m dynawatt.reference``: write the generated pages, or check that they are up to date."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dynawatt.reference.llmservice_page import llmservice_page
from dynawatt.reference.troubleshooting_page import troubleshooting_page

_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@_app.command()
def main(
    root: Annotated[Path, typer.Option(help="The repository.", metavar="DIR", show_default=False)] = Path(),
    write: bool = typer.Option(
        False, "--write/--check", help="Write the pages, or fail when they differ from what the types say."
    ),
) -> None:
    """Generate docs/llmservice.md and docs/troubleshooting.md, or check them."""
    pages = {"docs/llmservice.md": llmservice_page(), "docs/troubleshooting.md": troubleshooting_page()}
    drifted = [path for path, text in pages.items() if _read(root / path) != text]
    for path in drifted:
        if write:
            (root / path).write_text(pages[path], encoding="utf-8")
            typer.echo(f"wrote {root / path}")
        else:
            typer.echo(
                f"{path} differs from operator/dynawatt/api; run: python -m dynawatt.reference --write", err=True
            )
    if drifted and not write:
        raise typer.Exit(1)


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(_app())
