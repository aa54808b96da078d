"""Progress on standard error: bars on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dynawatt.quantities import S_PER_HOUR

_PLAIN_EVERY_S = 10.0
_MODELS = "latency models"


class ProgressBars:
    """A bar per policy, each begun when the one before is done, and one for what is simulated in advance."""

    def __init__(self) -> None:
        self.context = ""
        """Of the policies that are begun from now on."""
        console = Console(stderr=True)
        self._progress: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TextColumn("{task.fields[state]}"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=console)
        self._task: TaskID | None = None
        self._models: TaskID | None = None
        self._name = ""
        self._horizon_s = 0.0
        self._shown_s = time.monotonic()

    def __enter__(self) -> Self:
        """Begin to show them."""
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave them as they are."""
        if self._progress is not None:
            self._progress.stop()

    def say(self, text: str) -> None:
        """What is being done, where there is no telling how long it takes."""
        if self._progress is not None:
            self._progress.console.print(text, style="dim")

    def begin(self, name: str, horizon_s: float) -> None:
        """The next policy's bar, from 0 to a virtual time in s."""
        self._name, self._horizon_s = f"{name}, {self.context}" if self.context else name, horizon_s
        if self._progress is not None:
            self._task = self._progress.add_task(self._name, total=horizon_s, state="")

    def show(self, now_s: float) -> None:
        """Move the newest policy's bar to a virtual time."""
        state = f"hour {now_s / S_PER_HOUR:.1f} of {self._horizon_s / S_PER_HOUR:.1f}"
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=now_s, state=state)
        else:
            self._line(f"{self._name}: {state}")

    def models(self, done: int, total: int) -> None:
        """Latency models that are simulated in advance, by their clocks; see ``CachedSurfaces``."""
        state = f"{done} of {total} clocks"
        if self._progress is None:
            self._line(f"{_MODELS}: {state}")
            return
        if self._models is None or done == 0:
            self._models = self._progress.add_task(_MODELS, total=total, state=state)
        self._progress.update(self._models, completed=done, state=state)

    def _line(self, text: str) -> None:
        if time.monotonic() >= self._shown_s + _PLAIN_EVERY_S:
            self._shown_s = time.monotonic()
            print(text, file=sys.stderr, flush=True)
