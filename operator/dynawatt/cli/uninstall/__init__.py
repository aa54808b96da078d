"""``dynawatt uninstall``: what the Helm chart's hooks run before and after dynawatt is removed."""

import typer

from dynawatt.cli.uninstall.command import clean_up, give_back


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Give everything back, then clear up: what the chart's hooks run.")
    group.command("give-back")(give_back)
    group.command("clean-up")(clean_up)
    app.add_typer(group, name="uninstall")
