"""How long work in the sandbox tells its caller what it is doing."""

from typing import Protocol


class Progress(Protocol):
    """Receives what happens; the command line shows it, tests ignore it."""

    def say(self, text: str) -> None:
        """One line worth keeping."""
        ...

    def busy(self, text: str, *, elapsed_s: float, expected_s: float) -> None:
        """What is going on now, called about once a second; ``expected_s`` is 0 when unknown."""
        ...


class Silent:
    """A Progress that shows nothing."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def busy(self, text: str, *, elapsed_s: float, expected_s: float) -> None:
        """Ignore it."""
