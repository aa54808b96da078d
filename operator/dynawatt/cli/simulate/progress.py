"""Progress of a simulation on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dynawatt.quantities import S_PER_HOUR

_PLAIN_EVERY_S = 10.0


class ProgressBars:
    """One bar per policy, each begun when the one before is done."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._progress: Progress | None = None
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TextColumn("hour {task.fields[hour]:.1f} of {task.fields[hours]:.1f}"),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=console)
        self._task: TaskID | None = None
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

    def begin(self, name: str, horizon_s: float) -> None:
        """The next bar, from 0 to a virtual time in s."""
        self._name, self._horizon_s = name, horizon_s
        if self._progress is not None:
            self._task = self._progress.add_task(name, total=horizon_s, hour=0.0, hours=horizon_s / S_PER_HOUR)

    def show(self, now_s: float) -> None:
        """Move the newest bar to a virtual time."""
        hour, hours = now_s / S_PER_HOUR, self._horizon_s / S_PER_HOUR
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=now_s, hour=hour)
        elif time.monotonic() >= self._shown_s + _PLAIN_EVERY_S:
            self._shown_s = time.monotonic()
            print(f"{self._name}: hour {hour:.1f} of {hours:.1f}", file=sys.stderr, flush=True)
