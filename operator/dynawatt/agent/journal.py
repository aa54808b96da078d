"""Which GPUs may be locked by us, on disk before they are.

The driver cannot be asked which clocks are locked, and an agent may be killed at
any moment. So a GPU is written down before its first lock and struck out after
its reset: whatever the file names at the next start may be locked, and what it
does not name was not locked by us and is left as its administrator set it. A
file that is missing or damaged proves nothing: then every GPU may be locked.

The file is replaced as a whole and flushed together with its directory, so that
a crash leaves the old or the new one. One process at a time may use it.
"""

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dynawatt.errors import OperationError

_FILE: Final = "clocks.json"
_ASIDE: Final = "clocks.damaged.json"
_VERSION: Final = 1
_MAX_BYTES: Final = 64 * 1024

_log = logging.getLogger(__name__)


class JournalError(Exception):
    """The journal could not be written: nothing may be locked that it does not surely name."""


class Journal:
    """The journal in one directory, held by this process until it is closed.

    Args:
        directory: Made if need be; must survive the pod, and need not survive a reboot, which unlocks every GPU.

    Raises:
        OperationError: The directory cannot be used, or another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self._path: Final = directory / _FILE
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise OperationError(
                f"the journal directory {directory} cannot be used: {error.strerror or error}; "
                "give a writable one that outlives the agent's pod with --journal-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise OperationError(
                f"the journal directory {directory} is in use by another agent on this node: stop that one first"
            ) from error
        self._uuids = self._read()
        self._found: Final = self._uuids
        self._problem = ""

    @property
    def found(self) -> frozenset[str] | None:
        """The GPUs it named when it was opened; None when it was missing or damaged, and any may be locked."""
        return self._found

    @property
    def uuids(self) -> frozenset[str]:
        """The GPUs that it surely names now."""
        return self._uuids or frozenset()

    @property
    def problem(self) -> str:
        """Why the last attempt to write it failed; empty when it did not."""
        return self._problem

    def replace(self, uuids: Iterable[str]) -> None:
        """Name exactly these GPUs, on disk when this returns.

        Raises JournalError when that fails and not all of them are named. When it only names too many, which is safe,
        it is written again with the next call.
        """
        wanted = frozenset(uuids)
        if wanted == self._uuids and not self._problem:
            return
        try:
            self._write(wanted)
        except OSError as error:
            self._note(f"{self._path}: {error.strerror or error}")
            if self._uuids is not None:
                self._uuids &= wanted  # it may have failed after the rename: only what both name is certain
            if not wanted <= self.uuids:
                raise JournalError(self._problem) from error
            return
        self._note("")
        self._uuids = wanted

    def close(self) -> None:
        """Let another process use it."""
        os.close(self._lock)

    def _write(self, uuids: frozenset[str]) -> None:
        """Raises OSError."""
        partial = self._path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(_text(uuids))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, self._path)
        _flush_directory(self._path.parent)

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            _log.error("journal error=%r no further GPU is locked", problem)
        elif self._problem and not problem:
            _log.info("journal file=%s can be written again", self._path)
        self._problem = problem

    def _read(self) -> frozenset[str] | None:
        try:
            with self._path.open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("journal file=%s error=%r all GPUs count as locked", self._path, str(error))
            return None
        uuids = _parsed(content)
        if uuids is None:
            aside = self._path.with_name(_ASIDE)
            _log.error("journal file=%s is damaged: kept as %s, all GPUs count as locked", self._path, aside.name)
            try:
                os.replace(self._path, aside)
            except OSError as error:
                _log.warning("journal file=%s error=%r", aside, str(error))
        return uuids


def _text(uuids: frozenset[str]) -> bytes:
    body = {"version": _VERSION, "gpus": sorted(uuids)}
    return json.dumps({**body, "sha256": _digest(body)}, indent=1).encode() + b"\n"


def _parsed(content: bytes) -> frozenset[str] | None:
    """The GPUs of a journal; None unless it is whole."""
    try:
        body = json.loads(content)
        digest = body.pop("sha256")
        gpus = body["gpus"]
        if body["version"] != _VERSION or digest != _digest(body) or not all(isinstance(uuid, str) for uuid in gpus):
            return None
        return frozenset(gpus)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _flush_directory(path: Path) -> None:
    """A rename is safe from a power cut once its directory is on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
