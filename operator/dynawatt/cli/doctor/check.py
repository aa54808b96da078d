"""What a check says: whether it is as it should be, and what to do where it is not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_NAMED: Final = 3


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well as it could, or not for long."""
    FAILED = "failed"
    """Something that was asked for cannot work so."""
    SKIPPED = "skipped"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line for people, one object for machines."""

    about: str
    """The part of the system, or the ``namespace/name`` of an LLMService."""
    name: str
    outcome: Outcome
    message: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""
    command: str = ""
    """That does it, or shows more; empty where nothing is to be typed."""


@dataclass(frozen=True, slots=True)
class About:
    """Makes checks that are about the same."""

    about: str

    def ok(self, name: str, message: str) -> Check:
        """It is as it should be."""
        return Check(self.about, name, Outcome.OK, message)

    def warning(self, name: str, message: str, remedy: str, command: str = "") -> Check:
        """It could be better."""
        return Check(self.about, name, Outcome.WARNING, message, remedy, command)

    def failed(self, name: str, message: str, remedy: str, command: str = "") -> Check:
        """It cannot work so."""
        return Check(self.about, name, Outcome.FAILED, message, remedy, command)

    def skipped(self, name: str, message: str, remedy: str = "") -> Check:
        """It could not be looked at."""
        return Check(self.about, name, Outcome.SKIPPED, message, remedy)

    def bad(self, name: str, message: str, remedy: str, command: str = "", *, hurts: bool) -> Check:
        """A failure where it hurts, otherwise a warning."""
        return (self.failed if hurts else self.warning)(name, message, remedy, command)


def some(names: Iterable[str]) -> str:
    """The first few of many names."""
    listed: Sequence[str] = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{', '.join(listed[:_NAMED])}{more}"


def counted(number: int, noun: str) -> str:
    """With the noun in the right number."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
