"""How ``dynawatt load`` looks: one line while it runs, a table at the end."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status
from rich.table import Table

from dynawatt.load.report import LoadProgress, LoadReport, Percentiles
from dynawatt.quantities import MS_PER_S

_PLAIN_EVERY_S = 10.0


class ProgressLine:
    """A line on standard error: renewed every second on a terminal, printed now and then elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._status: Status | None = console.status("starting") if console.is_terminal else None
        self._next_s = 0.0

    def __enter__(self) -> Self:
        """Begin to show it."""
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""
        if self._status is not None:
            self._status.stop()

    def show(self, progress: LoadProgress) -> None:
        """Show the newest state."""
        text = progress_text(progress)
        if self._status is not None:
            self._status.update(text)
        elif progress.elapsed_s >= self._next_s:
            self._next_s = progress.elapsed_s + _PLAIN_EVERY_S
            print(text, file=sys.stderr, flush=True)


def progress_text(progress: LoadProgress) -> str:
    """One line."""
    parts = [
        f"{progress.elapsed_s:.0f} s",
        f"{progress.recent_rps:.1f} requests/s",
        f"{progress.sent}/{progress.planned} sent",
        f"{progress.outstanding} outstanding",
        f"{progress.succeeded} done",
        f"{progress.failed} failed",
        f"p99 of the last 10 s: TTFT {_ms(progress.recent_ttft_s.p99)}, TBT {_ms(progress.recent_tbt_s.p99)}",
    ]
    return " | ".join(parts)


def report_table(report: LoadReport) -> Table:
    """The report at a glance."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    if report.stopped is not None:
        table.add_row("PARTIAL", f"[yellow]{report.stopped}[/]")
    table.add_row("Requests", f"{report.requests} of {report.planned} in {report.duration_s:.1f} s")
    failed = f"[red]{report.failed} failed[/]" if report.failed else "0 failed"
    cut_off = f", {report.unfinished} cut off" if report.unfinished else ""
    table.add_row("", f"{report.succeeded} succeeded, {failed}, {report.retried} retried{cut_off}")
    for reason, count in report.failed_by_reason.items():
        table.add_row("", f"[red]{count} x {reason}[/], such as: {_plain(report.failure_examples[reason])}")
    for title, percentiles, attainment, unit in (
        ("TTFT", report.ttft_s, report.attainment.ttft, "requests"),
        ("TBT", report.tbt_s, report.attainment.tbt, "gaps"),
    ):
        table.add_row(title, _latency(percentiles))
        if attainment is not None:
            # Rounded down: 99.996 % must not read as all of them.
            table.add_row("", f"{int(attainment * 10_000) / 100:.2f} % of {unit} within their objective")
    table.add_row("Tokens", f"{report.generated_tokens} generated, {report.tokens_per_s:.0f}/s")
    table.add_row("Own delay", f"{_ms(report.max_send_delay_s)} at most, counted as TTFT")
    return table


def _latency(percentiles: Percentiles) -> str:
    return f"p50 {_ms(percentiles.p50)}, p90 {_ms(percentiles.p90)}, p99 {_ms(percentiles.p99)}"


def _ms(latency_s: float | None) -> str:
    if latency_s is None:
        return "-"
    return f"{latency_s * MS_PER_S:.0f} ms" if latency_s >= 0.01 else f"{latency_s * MS_PER_S:.1f} ms"


def _plain(text: str) -> str:
    """Without rich's markup."""
    return text.replace("[", "\\[")
