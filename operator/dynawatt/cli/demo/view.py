"""The live view of the demo: what comes in, what runs, what it costs, whether the SLO holds, and why it is so."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dynawatt.api.llmservice_status import Decision
from dynawatt.cli.demo.scenario import Scenario
from dynawatt.cli.demo.watching import ServiceWatch, asked_for
from dynawatt.load.report import LoadProgress

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH = 60


@dataclass(slots=True)
class History:
    """The last values of what the view draws as lines."""

    rate_rps: deque[float] = field(default_factory=lambda: deque(maxlen=_WIDTH))
    power_w: deque[float] = field(default_factory=lambda: deque(maxlen=_WIDTH))
    clock_mhz: deque[float] = field(default_factory=lambda: deque(maxlen=_WIDTH))
    replicas: deque[float] = field(default_factory=lambda: deque(maxlen=_WIDTH))


def sparkline(values: Sequence[float], top: float) -> str:
    """Values as bars from 0 to ``top``, newest right."""
    steps = len(_BARS) - 1
    return "".join(_BARS[round(steps * min(max(value / top, 0.0), 1.0))] for value in values) if top > 0 else ""


class DemoView:
    """Draws frames; keeps nothing but the lines' history."""

    def __init__(self, scenario: Scenario, duration_s: float) -> None:
        """One view per run."""
        self._scenario = scenario
        self._duration_s = duration_s
        self._history = History()

    def sample(self, progress: LoadProgress, watch: ServiceWatch) -> None:
        """Take one point of every line; call it at a steady pace."""
        history = self._history
        history.rate_rps.append(progress.recent_rps)
        history.power_w.append(watch.power_w)
        history.clock_mhz.append(self.clock_mhz(watch))
        history.replicas.append(self.ready(watch))

    def frame(self, progress: LoadProgress, watch: ServiceWatch) -> Panel:
        """The whole view as it is now."""
        lines = Table.grid(padding=(0, 2))
        lines.add_column(style="bold")
        lines.add_column(justify="right", min_width=11)
        lines.add_column(no_wrap=True)
        gpu, history = self._scenario.models.gpu, self._history
        peak_rps = max(1.0, *history.rate_rps) if history.rate_rps else 1.0
        peak_w = max(1.0, *history.power_w) if history.power_w else 1.0
        lines.add_row("load", f"{progress.recent_rps:.1f} req/s", sparkline(history.rate_rps, peak_rps))
        lines.add_row("replicas", self.replicas(watch), sparkline(history.replicas, self._scenario.nodes))
        lines.add_row(
            "SM clock", f"{self.clock_mhz(watch):.0f} MHz", sparkline(history.clock_mhz, gpu.default_clock_mhz)
        )
        lines.add_row("GPU power", f"{watch.power_w:.0f} W", sparkline(history.power_w, peak_w))
        title = f"dynawatt demo  {progress.elapsed_s:.0f} of about {self._duration_s:.0f} s"
        return Panel(Group(lines, Text(), self._latency(progress), Text(), self._decision(watch)), title=title)

    def line(self, progress: LoadProgress, watch: ServiceWatch) -> str:
        """The essence in one line, for logs."""
        return (
            f"{progress.elapsed_s:5.0f} s  {progress.recent_rps:5.1f} req/s  replicas {self.replicas(watch)}  "
            f"{self.clock_mhz(watch):4.0f} MHz  {watch.power_w:6.0f} W  TTFT {_share(progress.attainment.ttft)}  "
            f"TBT {_share(progress.attainment.tbt)}  failed {progress.failed}  {self._reason(watch)}"
        )

    def clock_mhz(self, watch: ServiceWatch) -> float:
        """What the GPUs run at that pods hold, on average; the default clock while none does."""
        return self._scenario.models.gpu.default_clock_mhz if watch.clock_mhz is None else watch.clock_mhz

    @staticmethod
    def ready(watch: ServiceWatch) -> int:
        """Ready replicas."""
        return sum(shape.ready_replicas for shape in watch.status.shapes)

    @staticmethod
    def replicas(watch: ServiceWatch) -> str:
        """Ready and desired, and of which sizes they are."""
        summary = watch.status.summary
        return f"{summary.replicas}, {asked_for(watch.status)}" if summary else "-"

    def _latency(self, progress: LoadProgress) -> Table:
        table = Table(box=None, padding=(0, 2))
        for heading in ("", "P50 (10 s)", "P99 (10 s)", "within SLO (10 s)", "within SLO (all)"):
            table.add_column(heading, justify="left" if not heading else "right")
        rows = (
            ("TTFT", progress.recent_ttft_s, progress.recent_attainment.ttft, progress.attainment.ttft),
            ("TBT", progress.recent_tbt_s, progress.recent_attainment.tbt, progress.attainment.tbt),
        )
        for name, latency, recent, overall in rows:
            cells = (Text(_ms(latency.p50)), Text(_ms(latency.p99)), self._judged(recent), self._judged(overall))
            table.add_row(Text(name, style="bold"), *cells)
        counts = f"{progress.sent} sent, {progress.outstanding} running, {progress.failed} failed"
        table.add_row("", "", "", "", Text(counts, style="red" if progress.failed else "dim"))
        return table

    def _judged(self, share: float | None) -> Text:
        if share is None:
            return Text("-")
        return Text(_share(share), style="green" if share >= self._scenario.attainment else "red")

    def _decision(self, watch: ServiceWatch) -> Group:
        decision = watch.status.last_decision
        if decision is None:
            return Group(Text(f"last decision: none yet ({self._reason(watch)})", style="dim"))
        chosen = decision.chosen
        lines = [
            Text(f"last decision: {decision.reason}", style="bold"),
            Text(f"  {decision.message}"),
            Text(f"  predicted {chosen.predicted_watts} W{_predicted(decision)}; also looked at:", style="dim"),
        ]
        for other in decision.runners_up:
            size = f" x TP{other.tensor_parallel_size}" if other.tensor_parallel_size else ""
            point = f"{other.replicas}{size} at {other.clock_megahertz} MHz"
            lines.append(Text(f"    {point:20} {other.predicted_watts:6} W  {other.why_not}", style="dim"))
        return Group(*lines)

    @staticmethod
    def _reason(watch: ServiceWatch) -> str:
        ready = next((condition for condition in watch.status.conditions if condition.type == "Ready"), None)
        if ready is not None and ready.status != "True":
            return ready.message
        decision = watch.status.last_decision
        return decision.reason if decision is not None else "waiting for the operator"


def _predicted(decision: Decision) -> str:
    saving = decision.predicted_saving
    if saving is None:
        return ""
    return f", {saving.to_default_clock_percent} % less than at the default clock"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _ms(value_s: float | None) -> str:
    return "-" if value_s is None else f"{1000 * value_s:.0f} ms"
