"""How the sandbox commands look: a live line on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status
from rich.table import Table

from dynawatt.sandbox.cluster import ComponentStatus
from dynawatt.sandbox.progress import Progress, Silent

_PLAIN_EVERY_S = 30.0


class _Plain:
    """One line now and then, for logs."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def busy(self, text: str, *, elapsed_s: float, expected_s: float) -> None:
        if text not in self._last or elapsed_s - self._last[text] >= _PLAIN_EVERY_S:
            self._last[text] = elapsed_s
            self.say(_busy_line(text, elapsed_s, expected_s))


class _Live:
    """A spinner whose text changes."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False)
        self._status.update("")

    def busy(self, text: str, *, elapsed_s: float, expected_s: float) -> None:
        self._status.update(_busy_line(text, elapsed_s, expected_s))


@contextmanager
def show_progress(*, quiet: bool = False) -> Iterator[Progress]:
    """A Progress that writes to standard error."""
    console = Console(stderr=True)
    if quiet:
        yield Silent()
    elif console.is_terminal:
        with console.status("") as status:
            yield _Live(console, status)
    else:
        yield _Plain()


def status_table(components: Sequence[ComponentStatus]) -> None:
    """Print the components."""
    table = Table(box=None, pad_edge=False)
    for title in ("COMPONENT", "STATE", "PID", "URL"):
        table.add_column(title, no_wrap=True)
    for component in components:
        state = "[green]running[/]" if component.running else "[red]dead[/]"
        table.add_row(component.record.name, state, str(component.record.pid), component.record.url)
    console = Console()
    console.print(table, highlight=False, width=max(console.width, 100), no_wrap=True, crop=False)


def _busy_line(text: str, elapsed_s: float, expected_s: float) -> str:
    usual = f", usually about {expected_s:.0f} s" if expected_s else ""
    return f"{text}: {elapsed_s:.0f} s{usual}"
