"""Runs the commands of the documentation as a reader would who copies them into a shell."""

import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

from .reading import ROOT, Block

_SCRIPT = f"#!{sys.executable}\nfrom dynawatt.cli.main import main\nif __name__ == '__main__':\n    main()\n"
_OF_THE_REPOSITORY = ("charts", "crds", "examples", "operator", "docs")


class Reader:
    """A folder with what a reader has in the repository, and a PATH with the programs."""

    def __init__(self, folder: Path, programs: dict[str, Path] | None = None) -> None:
        self._bin = folder / "bin"
        self.folder = folder / "repository"
        self._bin.mkdir()
        self.folder.mkdir()
        for name in _OF_THE_REPOSITORY:
            (self.folder / name).symlink_to(ROOT / name)
        for name in ("dynawatt", "kubectl-dynawatt"):
            (self._bin / name).write_text(_SCRIPT)
            (self._bin / name).chmod(0o755)
        for name, path in (programs or {}).items():
            (self._bin / name).symlink_to(path)

    def run(self, block: Block, *, replaced: dict[str, str] | None = None, timeout_s: float, **variables: str) -> str:
        """What the block's commands print; each must succeed. A file is written."""
        text = block.text
        for old, new in (replaced or {}).items():
            text = text.replace(old, new)
        if block.file:
            (self.folder / block.file).write_text(text)
            return ""
        environment = os.environ | {"PATH": f"{self._bin}:{os.environ['PATH']}", "NO_COLOR": "1"} | variables
        environment["PYTHONPATH"] = str(ROOT / "operator")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, f"{block}: {shlex.quote(text)}\n{done.stdout}"
        return done.stdout

    def write_trace(self, *, seconds: int, rate_per_s: float) -> None:
        """The ``trace.csv`` of whom the pages speak to."""
        draw = random.Random(20)
        lines, time_s = ["TIMESTAMP,ContextTokens,GeneratedTokens"], 0.0
        while (time_s := time_s + draw.expovariate(rate_per_s)) < seconds:
            minutes, rest_s = divmod(time_s, 60)
            lines.append(
                f"2026-11-02 10:{minutes:02.0f}:{rest_s:09.6f},{draw.randint(30, 3000)},{draw.randint(5, 400)}"
            )
        (self.folder / "trace.csv").write_text("\n".join(lines) + "\n")
