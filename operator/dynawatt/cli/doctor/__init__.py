"""``dynawatt doctor``."""

import typer

from dynawatt.cli.doctor.command import doctor


def register(app: typer.Typer) -> None:
    """Add the subcommand."""
    app.command("doctor")(doctor)
