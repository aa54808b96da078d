"""``dynawatt simulate``."""

import typer

from dynawatt.cli.simulate.command import simulate


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command("simulate")(simulate)
