"""The ``dynawatt`` command: one module per subcommand, errors as exit codes.

Each module ``dynawatt.cli.<name>`` offers ``register(app)``. Only the wanted one
is imported, so that the agent never loads the operator's dependencies, and
``--help`` and completion answer at once.
"""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperOption

from dynawatt import __version__
from dynawatt.errors import InvalidInputError, OperationError

COMMANDS: Final[Mapping[str, Mapping[str, str]]] = {
    "Before anything is installed": {
        "advise": "What would be saved here, from a trace or Prometheus.",
        "simulate": "Replay a load on a simulated fleet, policy by policy.",
        "profile": "What models cost on GPUs: list, show, validate, derive.",
    },
    "On this machine": {
        "demo": "The whole system under load, ending with what was saved.",
        "sandbox": "A real control plane with simulated GPUs and vLLM pods.",
        "load": "Replay requests against vLLM, measuring TTFT and TBT.",
    },
    "In a cluster": {
        "explain": "Why an LLMService is as it is, and what comes next.",
        "doctor": "Check access, agents, metrics and every LLMService.",
        "crds": "Print, write or check the resource definitions.",
    },
    "What the Helm chart runs": {
        "operator": "Plan for all LLMServices, and carry plans out.",
        "agent": "Govern the GPU clocks of one node.",
        "uninstall": "Give everything back, then clear up.",
    },
}
"""Titles of the subcommands by the group that ``--help`` shows them in, each on one line of 80 characters."""

_PLUGIN: Final = "kubectl-dynawatt"
"""The name under which kubectl finds this command as its plug-in."""

COMPLETE: Final = "_DYNAWATT_COMPLETE"
"""Set by the shell while it asks for completions."""

_UNLISTED: Final = ("install_completion", "show_completion")
"""Options that the epilog tells instead, so that ``--help`` is one screen."""

_EPILOG: Final = """Exit codes: 0 done, 1 something outside failed, 2 wrong input, 130 Ctrl-C.
Completion: dynawatt --install-completion. NO_COLOR=1 turns colours off."""

# typer keeps the base class of its usage errors private; BadParameter is the public way to it.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dynawatt {__version__}")
        raise typer.Exit


def build_app(argv: Sequence[str], *, completion: bool = True) -> typer.Typer:
    """The command tree with the subcommand that ``argv`` names loaded and the others as titles."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=completion,
        help="The fewest joules that still meet the latency objectives, for vLLM on Kubernetes.",
        epilog=_EPILOG,
    )

    @app.callback()
    def root(
        version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show version."),
    ) -> None:
        del version

    wanted = next((word for word in argv if not word.startswith("-")), None)
    for group, commands in COMMANDS.items():
        for name, title in commands.items():
            if name == wanted:
                importlib.import_module(f"dynawatt.cli.{name}").register(app)
            else:
                app.command(name, help=title, rich_help_panel=group)(lambda: None)
    return app


def main() -> None:
    """Entry point: 2 for bad input, 1 for a failure outside, 130 for Ctrl-C; never a traceback for these."""
    try:
        code = _run()
        sys.stdout.flush()
    except InvalidInputError as error:
        code = _fail(str(error), 2)
    except BrokenPipeError:
        # Whoever read the output wants no more of it. What is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (OperationError, OSError) as error:
        code = _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except _UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":
            code = _fail(f"{error.format_message()} (see --help)", 2)
        else:
            error.show()
            code = 2
    sys.exit(code)


def _run() -> int:
    """The exit code of what the command line asks for."""
    plugin = Path(sys.argv[0]).name == _PLUGIN
    # The plug-in's completion is kubectl's business.
    command = typer.main.get_command(build_app(_words(), completion=not plugin))
    for option in command.params:
        if isinstance(option, TyperOption):
            option.hidden = option.name in _UNLISTED
    name = _PLUGIN.replace("-", " ") if plugin else "dynawatt"
    return command(prog_name=name, complete_var=COMPLETE, standalone_mode=False) or 0


def _words() -> list[str]:
    """The words behind the program's name, also of the line that is being completed."""
    if not os.environ.get(COMPLETE):
        return sys.argv[1:]
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return line.split()[1:]


def _fail(message: str, code: int) -> int:
    typer.echo(f"dynawatt: {message}", err=True)
    return code
