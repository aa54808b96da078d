"""``dynawatt explain``."""

import typer

from dynawatt.cli.explain.command import explain


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command("explain")(explain)
