"""Where what was learnt of profiles is kept between starts of the operator: one file of JSON, replaced as a whole."""

import contextlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


class CalibrationFile:
    """A file that one process writes."""

    def __init__(self, path: Path) -> None:
        """Its directory is made with the first ``save``."""
        self._path = path

    def load(self) -> Mapping[str, Any]:
        """The object in it; an empty one, with a warning, when it cannot be read, and without when there is none."""
        try:
            found = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("calibration=%s unreadable, learning starts anew: %r", self._path, str(error))
            return {}
        if not isinstance(found, dict):
            _log.warning("calibration=%s holds no object, learning starts anew", self._path)
            return {}
        return found

    def save(self, values: Mapping[str, Any]) -> None:
        """Replace what it holds: whoever reads it, even after a crash, finds all of one version. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump(values, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise
