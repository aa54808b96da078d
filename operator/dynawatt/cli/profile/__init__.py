"""``dynawatt profile``: the performance profiles that the package ships, where they come from and how good they are."""

import importlib

import typer

_COMMANDS = ("list", "show", "validate", "derive")


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Performance profiles: what a model costs on a GPU.")
    for name in _COMMANDS:
        importlib.import_module(f"{__name__}.{name}").register(group)
    app.add_typer(group, name="profile")
