"""The report's charts: one figure whose panels share the time axis, one colour per policy.

A policy's lines in all panels belong to one legend entry, so that a click hides
it everywhere, and zooming into one panel zooms all. Of many policies only a few are
shown at first, and none with its thin lines.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log10
from typing import Any, Final, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from dynawatt.cli.simulate.comparison import Comparison
from dynawatt.quantities import J_PER_KWH, MS_PER_S, S_PER_HOUR
from dynawatt.simulation.inventory import GPUS_PER_SERVER
from dynawatt.simulation.policies.dynawatt import DYNAWATT
from dynawatt.simulation.results import PolicyResult
from dynawatt.simulation.static_policies import SINGLE_POOL, STATIC_DEADLINE

# Okabe and Ito's colours, told apart with any colour vision; later policies begin again with other strokes.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SLO_COLOUR: Final = "#B00020"
_LOAD_COLOUR: Final = "#555555"
_PANEL_HEIGHT: Final = 210
FEW: Final = 6
"""Policies whose lines can be told apart when all are shown."""
_SHOWN: Final = (SINGLE_POOL, STATIC_DEADLINE, "clock-only-deadline", "dynamollm", *DYNAWATT)
"""Of more policies, those that are shown at first."""
_LEGEND_COLUMNS: Final = 7
_THIN: Final = 1.0
_THICK: Final = 2.0
_STROKES: Final = ("solid", "dash", "dot", "dashdot")
_LOG_TICKS: Final = [digit * 10.0**power for power in range(-1, 7) for digit in (1, 2, 5)]

Numbers = NDArray[np.float64]


class TimeUnit(NamedTuple):
    """What a time axis counts in."""

    name: str
    seconds: float
    ticks: float | None
    """Distance of its ticks, where plotly's own choice is unsuitable."""

    def of(self, time_s: Numbers) -> Numbers:
        """Times in this unit."""
        return time_s / self.seconds


def time_unit(horizon_s: float) -> TimeUnit:
    """For a load of this length."""
    if horizon_s <= 3 * S_PER_HOUR:
        return TimeUnit("minutes", 60.0, None)
    return TimeUnit("hours", S_PER_HOUR, 24.0 if horizon_s > 48 * S_PER_HOUR else None)


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    axis: str
    draw: Callable[["_Charts", int], None]
    logarithmic: bool = False


class _Look(NamedTuple):
    """Of a policy's lines."""

    colour: str
    stroke: str
    shown: bool
    """At first."""


def _looks(names: Sequence[str]) -> dict[str, _Look]:
    """Those that are shown at first can be told apart best."""
    shown = [name for name in names if len(names) <= FEW or name in _SHOWN]
    found: dict[str, _Look] = {}
    for index, name in enumerate([*shown, *(name for name in names if name not in shown)]):
        stroke = _STROKES[index // len(COLOURS) % len(_STROKES)]
        found[name] = _Look(COLOURS[index % len(COLOURS)], stroke, name in shown)
    return found


def figure(comparison: Comparison) -> go.Figure:
    """All charts of a comparison."""
    panels = _panels(comparison)
    drawn = make_subplots(
        rows=len(panels),
        shared_xaxes=True,
        vertical_spacing=0.26 / len(panels),
        subplot_titles=[panel.title for panel in panels],
    )
    unit = time_unit(comparison.question.horizon_s)
    charts = _Charts(comparison, drawn, unit, _looks([result.name for result in comparison.results]))
    for row, panel in enumerate(panels, start=1):
        panel.draw(charts, row)
        drawn.update_yaxes(title_text=panel.axis, row=row, col=1)
        if panel.logarithmic:
            drawn.update_yaxes(type="log", tickvals=_LOG_TICKS, row=row, col=1, minor={"showgrid": False})
        else:
            drawn.update_yaxes(rangemode="tozero", row=row, col=1)
    _arrange(drawn, unit, len(panels), len(comparison.results))
    return drawn


def _panels(comparison: Comparison) -> list[_Panel]:
    many = len(comparison.results) > FEW
    off = "" if many else " thick, off thin"
    high = f"P{comparison.question.slo.percentile:g}" + ("" if many else " thick, median thin")
    short, long = comparison.question.class_cuts[0]
    inputs = (f"below {short} tokens", f"{short} to {long - 1} tokens", f"{long} tokens and more")
    ttft = [
        _Panel(
            f"Time to first token, inputs {name}: {high}, objective red",
            "ms",
            lambda charts, row, index=index: charts.ttft(row, index),  # type: ignore[misc]
            logarithmic=True,
        )
        for index, name in enumerate(inputs)
    ]
    return [
        _Panel("Load", "requests/s", _Charts.load),
        _Panel("Power of the inventory, released GPUs idling", "kW", _Charts.power),
        _Panel(f"Energy since the start, released GPUs idling{off}", "kWh", _Charts.energy),
        _Panel("Energy per generated token, released GPUs idling", "J", _Charts.joules_per_token),
        *ttft,
        _Panel(f"Time between tokens: {high}, objective red", "ms", _Charts.tbt, logarithmic=True),
        _Panel("GPUs that replicas hold", "GPUs", _Charts.gpus),
        _Panel("Mean SM clock of these", "MHz", _Charts.clocks),
    ]


@dataclass(slots=True)
class _Charts:
    """Draws lines into the rows of a figure."""

    comparison: Comparison
    figure: go.Figure
    unit: TimeUnit
    looks: Mapping[str, _Look]

    def load(self, row: int) -> None:
        series = self.comparison.results[0].series
        self._line(row, "load", _middles_s(self.comparison.results[0]), series.requests_per_s, color=_LOAD_COLOUR)

    def power(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            # The first panel in which every policy has a line carries the legend.
            self._policy_line(row, index, _middles_s(result), _idling_w(result) / 1000, legend=True)

    def energy(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            width_s = widths_s(result)
            for power_w, width in ((_idling_w(result), _THICK), (result.series.power_w, _THIN)):
                energy_kwh = np.concatenate([[0.0], np.cumsum(power_w * width_s) / J_PER_KWH])
                self._policy_line(row, index, np.concatenate([[0.0], ends_s(result)]), energy_kwh, width=width)

    def joules_per_token(self, row: int) -> None:
        known = []
        for index, result in enumerate(self.comparison.results):
            tokens = result.series.output_tokens_per_s
            j_per_token = np.divide(_idling_w(result), tokens, out=np.full_like(tokens, np.nan), where=tokens > 0)
            self._policy_line(row, index, _middles_s(result), j_per_token)
            known.append(j_per_token[np.isfinite(j_per_token)])
        # The first seconds generate almost nothing and would flatten all the rest.
        top = np.percentile(np.concatenate(known), 98) if any(map(len, known)) else 1.0
        self.figure.update_yaxes(range=[0, 1.3 * top], row=row, col=1)

    def ttft(self, row: int, input_class: int) -> None:
        for index, result in enumerate(self.comparison.results):
            series = result.series
            self._policy_line(row, index, _middles_s(result), MS_PER_S * series.ttft_high_s[input_class])
            self._policy_line(row, index, _middles_s(result), MS_PER_S * series.ttft_p50_s[input_class], width=_THIN)
        longest = (*self.comparison.question.class_cuts[0], 1 << 30)[input_class] - 1
        self._objective(row, self.comparison.question.slo.objectives.ttft_s(longest))

    def tbt(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            self._policy_line(row, index, _middles_s(result), MS_PER_S * result.series.tbt_high_s)
            self._policy_line(row, index, _middles_s(result), MS_PER_S * result.series.tbt_p50_s, width=_THIN)
        self._objective(row, self.comparison.question.slo.objectives.tbt_s)

    def gpus(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            self._steps(row, index, result, result.series.held_gpus)

    def clocks(self, row: int) -> None:
        for index, result in enumerate(self.comparison.results):
            degrees = np.array([shape.replica.tensor_parallel for shape in result.shapes], np.float64)
            gpus = degrees[:, None] * result.series.replicas.sum(axis=1)
            total = gpus.sum(axis=0)
            weighed = (gpus * np.nan_to_num(result.series.clock_mhz)).sum(axis=0)
            mean_mhz = np.divide(weighed, total, out=np.full(len(total), np.nan), where=total > 0)
            self._steps(row, index, result, mean_mhz)

    def _steps(self, row: int, index: int, result: PolicyResult, values: Numbers) -> None:
        """States at the ends of intervals."""
        self._policy_line(row, index, ends_s(result), values, shape="vh")

    def _policy_line(
        self,
        row: int,
        index: int,
        times_s: Numbers,
        values: Numbers,
        *,
        width: float = _THICK,
        shape: str = "linear",
        legend: bool = False,
    ) -> None:
        if width < _THICK and len(self.comparison.results) > FEW:
            return
        policy = self.comparison.results[index].name
        look = self.looks[policy]
        self._line(
            row,
            policy,
            times_s,
            values,
            color=look.colour,
            width=width,
            dash=look.stroke,
            shape=shape,
            legendgroup=policy,
            showlegend=legend,
            visible=True if look.shown else "legendonly",
        )

    def _line(
        self,
        row: int,
        name: str,
        times_s: Numbers,
        values: Numbers,
        *,
        color: str,
        width: float = _THICK,
        dash: str = "solid",
        shape: str = "linear",
        **options: Any,
    ) -> None:
        line = {"color": color, "width": width, "dash": dash, "shape": shape}
        options = {"showlegend": False, **options}
        trace = go.Scatter(
            x=rounded(self.unit.of(times_s)), y=rounded(values), name=name, mode="lines", line=line, **options
        )
        self.figure.add_trace(trace, row=row, col=1)

    def _objective(self, row: int, objective_s: float) -> None:
        """A line, and its value at the right; plotly's own marker lines do not know logarithmic axes."""
        if not isfinite(objective_s):
            return
        objective_ms = MS_PER_S * objective_s
        ends_s = np.array([0.0, max(result.series.end_s for result in self.comparison.results)])
        self._line(row, "objective", ends_s, np.full(2, objective_ms), color=_SLO_COLOUR, width=1.2, dash="dash")
        self.figure.add_annotation(
            text=f"{objective_ms:g} ms", x=1, xref="x domain", xanchor="left", y=log10(objective_ms), yanchor="middle",
            showarrow=False, font={"color": _SLO_COLOUR, "size": 11}, row=row, col=1,
        )  # fmt: skip


def _arrange(drawn: go.Figure, unit: TimeUnit, panels: int, policies: int) -> None:
    legend_rows = -(-policies // _LEGEND_COLUMNS)
    drawn.update_xaxes(showticklabels=True, showgrid=True, gridcolor="#eee", zeroline=False, dtick=unit.ticks)
    drawn.update_xaxes(title_text=f"{unit.name} since the start", row=panels, col=1)
    drawn.update_yaxes(showgrid=True, gridcolor="#e4e4e4", zeroline=False, minor={"gridcolor": "#f3f3f3"})
    # Titles stand left above their panels, out of the way of the lines.
    drawn.update_annotations(font_size=13)
    for note in drawn.layout.annotations[:panels]:
        note.update(x=0, xanchor="left", font={"size": 13, "color": "#222"})
    drawn.update_layout(
        height=_PANEL_HEIGHT * panels,
        margin={"l": 70, "r": 70, "t": 70 + 24 * legend_rows, "b": 50},
        plot_bgcolor="white",
        paper_bgcolor="white",
        font={"family": "system-ui, sans-serif", "size": 12, "color": "#333"},
        hovermode="x",
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1 + 30 / (_PANEL_HEIGHT * panels),
            "yanchor": "bottom",
            "font": {"size": 14},
        },
    )


def _idling_w(result: PolicyResult) -> Numbers:
    """Power of the whole inventory over time, released GPUs idling."""
    released = np.maximum(0.0, result.servers * GPUS_PER_SERVER - result.series.held_gpus)
    return result.series.power_w + released * result.shapes[0].replica.released_w


def widths_s(result: PolicyResult) -> Numbers:
    """Lengths of the intervals of the series."""
    series = result.series
    return np.diff(series.start_s, append=series.end_s)


def ends_s(result: PolicyResult) -> Numbers:
    """Where the intervals of the series end."""
    return np.asarray(result.series.start_s + widths_s(result))


def _middles_s(result: PolicyResult) -> Numbers:
    return np.asarray(result.series.start_s + widths_s(result) / 2)


def rounded(values: Numbers) -> list[float | None]:
    """Five digits, as a reader sees no more and the file stays small; None, a gap in the line, for nan."""
    return [None if np.isnan(value) else float(f"{value:.5g}") for value in values]
