"""One holder at a time for a directory, without a lock file that would stay behind.

The lock is taken on the directory itself and ends with the process that holds
it. Whoever waited may find that the directory was removed or made anew
meanwhile, so its identity is compared after the lock is there.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def locked_directory(path: Path, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold ``path`` exclusively; it is created when missing and removed at the end when empty.

    ``waiting`` is called once if somebody else holds it.
    """
    descriptor = _acquire(path, waiting)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty: it stays
            path.rmdir()
        os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[], None]) -> int:
    while True:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # removed since mkdir
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
