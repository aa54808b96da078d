"""The ``dynawatt`` command: one module per subcommand, errors as exit codes.

Each module ``dynawatt.cli.<name>`` offers ``register(app)``. Only the wanted one
is imported, so that the agent never loads the operator's dependencies and
``--help`` answers at once.
"""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import typer

from dynawatt import __version__
from dynawatt.errors import InvalidInputError, OperationError

_SUBCOMMANDS = {
    "advise": "What dynawatt would save for a service, from a trace or its Prometheus; installs nothing.",
    "agent": "Govern the GPU clocks of one node within the operator's claims.",
    "crds": "Print, write or check the custom resource definitions.",
    "demo": "The whole system on this machine, under load, ending with what was saved.",
    "doctor": "Check access, CRDs, operator, agents, metrics and every LLMService, and say what to do.",
    "explain": "Why an LLMService is as it is, and what comes next.",
    "load": "Replay a request trace against vLLM and measure TTFT and TBT.",
    "operator": "Watch LLMServices and keep them at the fewest joules within their SLO.",
    "profile": "Performance profiles: what a model costs on a GPU, from which measurements, how exactly.",
    "sandbox": "A real Kubernetes control plane on this machine with simulated GPU nodes and vLLM pods.",
    "simulate": "Replay a load on a simulated fleet under one policy after another: energy, latencies, a report.",
}

# typer keeps the base class of its usage errors private; BadParameter is the public way to it.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dynawatt {__version__}")
        raise typer.Exit


def build_app(argv: Sequence[str]) -> typer.Typer:
    """The command tree with the subcommand that ``argv`` names loaded and the others as titles."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        help="The fewest joules that still meet the latency objectives, for vLLM on Kubernetes.",
    )

    @app.callback()
    def root(
        version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show version."),
    ) -> None:
        del version

    wanted = next((word for word in argv if not word.startswith("-")), None)
    for name, title in _SUBCOMMANDS.items():
        if name == wanted:
            importlib.import_module(f"dynawatt.cli.{name}").register(app)
        else:
            app.command(name, help=title)(lambda: None)
    return app


def main() -> None:
    """Entry point: 2 for bad input, 1 for a failure outside, 130 for Ctrl-C; never a traceback for these."""
    code = 0
    try:
        code = build_app(sys.argv[1:])(standalone_mode=False) or 0
    except InvalidInputError as error:
        typer.echo(f"dynawatt: {error}", err=True)
        code = 2
    except (OperationError, OSError) as error:
        typer.echo(f"dynawatt: {error}", err=True)
        code = 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except _UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":
            typer.echo(f"dynawatt: {error.format_message()} (see --help)", err=True)
        else:
            error.show()
        code = 2
    sys.exit(code)
