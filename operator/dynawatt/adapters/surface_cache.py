"""Surfaces on disk: one file per fingerprint, so that a restarted operator plans at once.

A file is written aside and then renamed, so that a reader finds all of it or
nothing. It begins with a checksum of the JSON that follows: a file that another
hand or a broken disk changed is as good as absent, and is built anew. Floats are
kept exactly, so that a surface read is equal to the one built.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from dynawatt.perfmodel.surface import ClassLatency, Surface, SurfacePoint

_SUFFIX: Final = ".surface"
_MOST_FILES: Final = 512
"""Half a MB each; the ones unused for longest go first. A comparison of all policies needs about thirty."""


def default_surface_dir() -> Path | None:
    """After the XDG base directory rules, by which a relative path is ignored; None for a user without a home."""
    value = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(value) if os.path.isabs(value) else Path.home() / ".cache"
    except RuntimeError:
        return None
    return cache / "dynawatt" / "surfaces"


class SurfaceCache:
    """A directory of surfaces, which may be shared by several processes."""

    def __init__(self, directory: Path) -> None:
        """The directory is created with the first surface."""
        self._directory = directory

    def load(self, fingerprint: str) -> Surface | None:
        """The surface; None when it is absent or cannot be read."""
        path = self._path(fingerprint)
        try:
            checksum, _, content = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        if checksum != _checksum(content):
            return None
        surface = _decode(json.loads(content))
        with contextlib.suppress(OSError):
            os.utime(path)
        return surface

    def store(self, fingerprint: str, surface: Surface) -> None:
        """Write it, and forget the oldest of too many. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        content = json.dumps(_encode(surface)).encode()
        handle, name = tempfile.mkstemp(dir=self._directory, prefix=f".{fingerprint}-")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_checksum(content) + b"\n" + content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path(fingerprint))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._prune()

    def _path(self, fingerprint: str) -> Path:
        return self._directory / f"{fingerprint}{_SUFFIX}"

    def _prune(self) -> None:
        used: list[tuple[float, Path]] = []
        for path in self._directory.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(OSError):  # another process removed it
                used.append((path.stat().st_mtime, path))
        for _, path in sorted(used)[:-_MOST_FILES]:
            path.unlink(missing_ok=True)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _encode(surface: Surface) -> dict[str, Any]:
    fleets = {1: surface.points, **surface.shared_points}
    return {
        "tensor_parallel": surface.tensor_parallel,
        "released_w": surface.released_w,
        "loaded_idle_w": surface.loaded_idle_w,
        "fleets": {
            size: {clock_mhz: [asdict(point) for point in row] for clock_mhz, row in points.items()}
            for size, points in fleets.items()
        },
    }


def _decode(content: dict[str, Any]) -> Surface:
    fleets = {
        int(size): {int(clock_mhz): tuple(_point(**point) for point in row) for clock_mhz, row in rows.items()}
        for size, rows in content["fleets"].items()
    }
    return Surface(
        tensor_parallel=content["tensor_parallel"],
        released_w=content["released_w"],
        loaded_idle_w=content["loaded_idle_w"],
        points=fleets.pop(1),
        shared_points=fleets,
    )


def _point(*, classes: list[dict[str, Any]], **rest: Any) -> SurfacePoint:
    return SurfacePoint(
        classes=tuple(ClassLatency(**_with_intervals(latency)) for latency in classes), **_with_intervals(rest)
    )


def _with_intervals(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no tuples."""
    return {name: tuple(value) if name.endswith("_interval") else value for name, value in values.items()}
