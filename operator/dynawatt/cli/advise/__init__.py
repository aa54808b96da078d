"""``dynawatt advise``."""

import typer

from dynawatt.cli.advise.command import advise


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command("advise")(advise)
