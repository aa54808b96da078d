"""``python -m dynawatt.reference``: write the generated pages, or check that they are up to date."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dynawatt.reference.keeping import keep
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
    if not keep(pages, root, write=write, source="operator/dynawatt/api", module="dynawatt.reference"):
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(_app())
