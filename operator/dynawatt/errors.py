"""The two errors a user can cause or meet; the command line turns them into exit codes.

InvalidInputError (exit 2)
    What the user gave cannot be used: the message names the field, the value and the remedy.
OperationError (exit 1)
    The world did not do what it should (a process died, a server did not answer).
"""

import difflib
from collections.abc import Iterable


class InvalidInputError(ValueError):
    """The user's input is wrong; the message is one line with field, value and remedy."""


class OperationError(Exception):
    """Something outside failed; the message is one line with what failed and what to try."""


def nearest_names(wanted: str, known: Iterable[str]) -> str:
    """A clause that names the known ones most like the wanted one, or all where none is."""
    names = sorted(known)
    near = difflib.get_close_matches(wanted.rsplit("/", 1)[-1].lower(), names, n=4, cutoff=0.4)
    return f"nearest {', '.join(near)}" if near else f"must be one of {', '.join(names) or 'none'}"
