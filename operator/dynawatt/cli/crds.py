"""``dynawatt crds``: the custom resource definitions, printed, written, or compared with a directory."""

from pathlib import Path
from typing import Annotated

import typer

from dynawatt.api.crd import crd_documents, crd_files, render_yaml
from dynawatt.errors import InvalidInputError, OperationError

_DEFAULT_DIRECTORY = Path("crds")


def register(app: typer.Typer) -> None:
    """Add the subcommand."""

    @app.command("crds")
    def crds(
        directory: Annotated[
            Path | None, typer.Argument(help="With --write or --check: the directory.", show_default="crds")
        ] = None,
        write: bool = typer.Option(False, "--write", help="Write one file per kind into DIRECTORY."),
        check: bool = typer.Option(
            False, "--check", help="Fail when DIRECTORY differs from this version's definitions."
        ),
    ) -> None:
        """Print the custom resource definitions as YAML (pipe into `kubectl apply --server-side -f -`)."""
        if write and check:
            raise InvalidInputError("--write and --check exclude each other: give one of them")
        if not write and not check:
            if directory is not None:
                raise InvalidInputError(f"DIRECTORY {directory} is not used when printing: add --write or --check")
            typer.echo(render_yaml(crd_documents()), nl=False)
            return
        target = directory or _DEFAULT_DIRECTORY
        if write:
            _write(target)
        else:
            _check(target)


def _write(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in crd_files().items():
            (directory / name).write_text(text, encoding="utf-8")
            typer.echo(f"wrote {directory / name}")
    except OSError as error:
        raise InvalidInputError(
            f"--write {directory}: {error.strerror}: {error.filename}; give a directory that can be written"
        ) from error


def _check(directory: Path) -> None:
    if not directory.is_dir():
        raise InvalidInputError(
            f"--check {directory}: is not a directory; run in the repository's root or name the directory"
        )
    expected = crd_files()
    present = {
        path.name: path.read_text(encoding="utf-8", errors="replace") for path in sorted(directory.glob("*.yaml"))
    }
    drifted = [
        f"{directory / name} {'is missing' if name not in present else 'differs from the types in dynawatt.api'}"
        for name, text in expected.items()
        if present.get(name) != text
    ]
    if drifted:
        raise OperationError(f"{'; '.join(drifted)}; run: dynawatt crds --write {directory}")
    if strays := present.keys() - expected.keys():
        raise OperationError(
            f"{directory / min(strays)} belongs to no custom resource; run: rm {directory / min(strays)}"
        )
