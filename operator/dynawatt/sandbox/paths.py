"""Where the sandbox keeps its files, after the XDG base directory rules."""

import os
from pathlib import Path


def _base(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG rules say that a relative path must be ignored.
    return Path(value) if os.path.isabs(value) else Path.home() / fallback


def binaries_root() -> Path:
    """Built programs; shared by all sandboxes and kept between them."""
    return _base("XDG_CACHE_HOME", ".cache") / "dynawatt" / "bin"


def sandboxes_root() -> Path:
    """One directory per existing sandbox; each vanishes with its sandbox."""
    return _base("XDG_STATE_HOME", ".local/state") / "dynawatt" / "sandboxes"
