"""Keeps generated files as the code says they are."""

from collections.abc import Mapping
from pathlib import Path

import typer


def keep(files: Mapping[str, str], root: Path, *, write: bool, source: str, module: str) -> bool:
    """Write what differs, or say so; False when something is left to do.

    Args:
        files: Texts by path.
        root: What paths begin at.
        write: Whether to write.
        source: What they are generated from, for people.
        module: What generates them.
    """
    drifted = [path for path, text in files.items() if _read(root / path) != text]
    for path in drifted:
        if write:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(files[path], encoding="utf-8")
            typer.echo(f"wrote {root / path}")
        else:
            typer.echo(f"{path} differs from {source}; run: python -m {module} --write", err=True)
    return write or not drifted


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
