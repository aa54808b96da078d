"""Builds the simulated driver's library from the C files beside it, once per user.

Like the control plane's programs (sandbox/build.py) it lies in a directory of
the user's cache that is named after all that decides what is built.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from dynawatt.errors import OperationError
from dynawatt.sandbox.locking import locked_directory
from dynawatt.sandbox.packages import install_pinned
from dynawatt.sandbox.paths import binaries_root
from dynawatt.sandbox.progress import Progress, Silent

LIBRARY_NAME: Final = "libnvidia-ml.so.1"
_SOURCES: Final = Path(__file__).parent / "library"
_FLAGS: Final = (
    *("-std=gnu11", "-O2", "-shared", "-fPIC", "-pthread", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Werror", f"-Wl,-soname,{LIBRARY_NAME}"),
)
_ZIGLANG: Final = """\
ziglang==0.17.1 \
 --hash=sha256:ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54 \
 --hash=sha256:b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e
"""


class Flavour(StrEnum):
    """Which functions the library has: those of a driver of 2025, or fewer."""

    CURRENT = "current"
    OLD = "old"
    """Without locked clocks, event reasons and TemperatureV, like drivers before Volta."""
    NEXT = "next"
    """Without what NVIDIA announced to remove in CUDA 14: application clocks and the older names of readings."""


_OMITTED: Final = {
    Flavour.CURRENT: (),
    Flavour.OLD: ("-DWITHOUT_LOCKED_CLOCKS", "-DWITHOUT_NEW_READINGS"),
    Flavour.NEXT: ("-DWITHOUT_APPLICATIONS_CLOCKS", "-DWITHOUT_DEPRECATED_READINGS"),
}


def ensure_driver(progress: Progress | None = None, *, flavour: Flavour = Flavour.CURRENT) -> Path:
    """The directory to put on LD_LIBRARY_PATH, with nothing but the library in it, after building it if need be.

    The machine's C compiler is used, or else the PyPI package ziglang. Raises OperationError with the end of the
    compiler's output when it fails.
    """
    progress = progress or Silent()
    root = binaries_root()
    output = root / f"driver-{flavour}-{_key(flavour)}"
    if not output.is_dir():
        with locked_directory(root, waiting=lambda: progress.say("Waiting for another build to finish")):
            if not output.is_dir():
                _build(flavour, output, _find_compiler(root, progress))
    return output


def _key(flavour: Flavour) -> str:
    """Hash of all that decides what is built."""
    digest = hashlib.sha256(" ".join([*_FLAGS, *_OMITTED[flavour], sys.platform, platform.machine()]).encode())
    for path in sorted(_SOURCES.glob("*.[ch]")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _find_compiler(install_root: Path, progress: Progress) -> Sequence[str]:
    """The command of a C compiler. Raises OperationError."""
    if own := next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None):
        return [own]
    target = install_root / "ziglang-0.17.1"
    if not target.exists():
        progress.say("No C compiler on PATH: installing the PyPI package ziglang (100 MB)")
        failure = "a C compiler is missing and pip could not install ziglang; install gcc and try again"
        install_pinned(_ZIGLANG, target, failure=failure)
    return [str(target / "ziglang" / "zig"), "cc"]


def _build(flavour: Flavour, output: Path, compiler: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix=".building-", dir=output.parent) as draft:
        library = Path(draft, "out", LIBRARY_NAME)
        library.parent.mkdir()
        sources = map(str, sorted(_SOURCES.glob("*.c")))
        command = [*compiler, *_FLAGS, *_OMITTED[flavour], "-o", str(library), *sources]
        environment = os.environ | {"ZIG_GLOBAL_CACHE_DIR": f"{draft}/zig", "ZIG_LOCAL_CACHE_DIR": f"{draft}/zig"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode != 0:
            reason = "\n  ".join(done.stderr.strip().splitlines()[-12:])
            raise OperationError(
                f"building {LIBRARY_NAME} failed ({compiler[0]} ended with {done.returncode}):\n  {reason}"
            )
        library.parent.rename(output)
