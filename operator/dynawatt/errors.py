"""The two errors a user can cause or meet; the command line turns them into exit codes.

InvalidInputError (exit 2)
    What the user gave cannot be used: the message names the field, the value and the remedy.
OperationError (exit 1)
    The world did not do what it should (a process died, a server did not answer).
"""


class InvalidInputError(ValueError):
    """The user's input is wrong; the message is one line with field, value and remedy."""


class OperationError(Exception):
    """Something outside failed; the message is one line with what failed and what to try."""
